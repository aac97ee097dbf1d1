//! Many jobs: in one call with an answer per item, from concurrent callers, and as a stream that never stops.
use futures::StreamExt;
use futures::future::try_join_all;
use jobwire::prelude::*;

#[derive(Serialize, Deserialize)]
struct Index {
    page: u32,
}

impl Task for Index {
    const TYPE: &'static str = "index";
    type Output = ();
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env()?;
    // [many]
    let pages = (0..2_500).map(|page| Index { page });
    let answers = client.enqueue_many(pages).tag("bulk").await; // 1,000 jobs or 1 MiB a request
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    println!("{} enqueued, {refused} refused", answers.len() - refused);
    // [/many]
    // [concurrent]
    let jobs = try_join_all((0..500).map(|page| client.enqueue(Index { page }).into_future())).await?;
    println!("{} enqueued by callers of their own, in few requests", jobs.len());
    // [/concurrent]
    // [stream]
    let pages = futures::stream::iter(0..3_000).map(|page| Index { page }); // a channel, a cursor, a socket
    let mut jobs = client.enqueue_stream(pages).priority(-1);
    let mut count = 0;
    while let Some(job) = jobs.next().await {
        job?; // one answer per item, in order
        count += 1;
    }
    println!("{count} enqueued from a stream");
    // [/stream]
    Ok(())
}
