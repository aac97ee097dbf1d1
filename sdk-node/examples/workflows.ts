// Workflows: chains, groups, chords, and graphs of one's own.
import { chain, chord, Client, defineTask, Flow, group, Worker, WorkflowFailed } from "jobwire";

const client = new Client();

// [tasks]
const fetchPage = defineTask<{ url: string }, { html: string }>("flow.fetch");
const parse = defineTask<{ html: string; tag?: string }, string[]>("flow.parse");
const count = defineTask<string[], number>("flow.count");
const resize = defineTask<{ path: string }, string>("flow.resize");
const report = defineTask<{ title: string; links: string[]; images: string[] }, string>("flow.report");
// [/tasks]
const broken = defineTask<{ why: string }, string>("flow.broken", { retry: 1 });
const alarm = defineTask<{ about: string }, string>("flow.alarm");

const worker = new Worker(client, { signals: false })
  .handle(fetchPage, ({ url }) => ({ html: `<a href="${url}/1"><a href="${url}/2"><b>` }))
  .handle(parse, ({ html, tag = "a" }) => html.split(">").filter((part) => part.startsWith(`<${tag}`)))
  .handle(count, (items) => items.length)
  .handle(resize, ({ path }) => path.replace(".png", ".webp"))
  .handle(report, ({ title, links, images }) => `${title}: ${links.length} links, ${images.join(" ")}`)
  .handle(broken, ({ why }) => {
    throw new Error(why);
  })
  .handle(alarm, ({ about }) => `called about ${about}`);
const running = worker.run();

// [chain]
// Each step gets the result of the one before as its input; keys that are given win. The compiler checks it.
const links = await client.start(chain(fetchPage.s({ url: "https://example.com" }), parse.s({ tag: "a" }), count.s()));
console.log(await links.result({ timeout: "20s" }));
// [/chain]

// [chord]
// Side by side; then a step that gets the list of the results, in order.
const paths = ["1.png", "2.png", "3.png"];
const gallery = await client.start(chord(paths.map((path) => resize.s({ path })), count.s()), { name: "gallery", tags: ["web"] });
console.log(await gallery.result({ timeout: "20s" }));
// [/chord]

// [flow]
const flow = new Flow("nightly", { totalTimeout: "1h" });
const page = flow.add(fetchPage.s({ url: "https://example.com" }));
const images = flow.add(group(paths.map((path) => resize.s({ path }))));
const made = flow.add(report.s({ title: "Nightly", links: flow.add(parse.s(page)), images })); // nodes stand for their results
flow.add(alarm.s({ about: "the report" }), { after: [made.failed] }); // a failure that is awaited is handled
const workflow = await client.start(flow);
console.log(await (await workflow.job(made)).result({ timeout: "20s" }));
// [/flow]
console.log((await workflow.wait({ timeout: "20s" })).state);

// [failed]
const hopeless = await client.start(chain(broken.s({ why: "no disk" }), alarm.s({ about: "it" })));
try {
  await hopeless.result({ timeout: "20s" });
} catch (error) {
  if (!(error instanceof WorkflowFailed)) throw error;
  console.log(error.state, Object.keys(error.failures), error.failures["flow.broken"]!.message);
}
for await (const { name, state } of hopeless.nodes()) console.log(name, state);
await hopeless.retry(); // what failed, and what was cancelled because of it
// [/failed]

await worker.stop();
await running;
await client.close();
