//! `jobwire schedule` against a real server.
mod cli_support;

use cli_support::Server;

const PUT: [&str; 12] = [
    "schedule",
    "put",
    "nightly",
    "{\"kind\":\"sales\"}",
    "--cron",
    "30 2 * * 1-5",
    "--time-zone",
    "Europe/Berlin",
    "--type",
    "report.build",
    "--overlap",
    "skip",
];

#[test]
fn a_schedule_is_put_seen_and_listed() {
    let server = Server::start(&[]);
    let answer = server.run(&PUT).exits(0).json();
    assert_eq!(answer["created"], true);
    let spec = &answer["schedule"]["spec"];
    assert_eq!((&spec["cron"], &spec["overlap"]), (&"30 2 * * 1-5".into(), &"OVERLAP_POLICY_SKIP".into()));
    assert_eq!(spec["job"]["payload"]["json"]["kind"], "sales");
    let again = server.run(&PUT).exits(0).json();
    assert_eq!((again["created"].is_null(), &again["schedule"]), (true, &answer["schedule"]));

    let page = server.run(&["schedule", "get", "nightly", "-o", "table"]).exits(0).out;
    assert!(page.contains("cadence       30 2 * * 1-5 Europe/Berlin\n"), "{page}");
    let table = server.run(&["schedule", "ls", "type", "=", "report.build", "-o", "table"]).exits(0).out;
    assert!(table.starts_with("SCHEDULE ") && table.contains("nightly"), "{table}");
    assert_eq!(server.run(&["schedule", "list", "-o", "id"]).exits(0).out, "nightly\n");
    server.run(&["schedule", "get", "none"]).exits(3);
}

#[test]
fn times_are_previewed_without_a_schedule() {
    let server = Server::start(&[]);
    let cadence = ["schedule", "preview", "--cron", "30 2 * * *", "--time-zone", "Europe/Berlin", "-n", "3"];
    let from = ["--start", "2030-03-30T00:00:00Z", "-o", "table"];
    let shown = server.run(&[&cadence[..], &from[..]].concat()).exits(0).out;
    let expected = "At 02:30, Europe/Berlin, from 2030-03-30T00:00:00Z\n  2030-03-30T01:30:00Z\n  2030-03-31T01:00:00Z\n  \
                    2030-04-01T00:30:00Z\n";
    assert_eq!(shown, expected);
    let wrong = server.run(&["schedule", "put", "x", "--cron", "0 0 30 2 *", "--type", "a"]).exits(2);
    assert!(wrong.err.contains("spec.cron: never fires"), "{}", wrong.err);
    server.run(&["schedule", "put", "x", "--cron", "@daily", "--every", "5s", "--type", "a"]).exits(2);
    server.run(&["schedule", "preview"]).exits(2);
}

#[test]
fn a_schedule_stands_still_runs_by_hand_and_goes() {
    let server = Server::start(&[]);
    server.run(&PUT).exits(0);
    let paused = server.run(&["schedule", "pause", "nightly", "--reason", "moving", "-o", "table"]).exits(0);
    assert_eq!(paused.out, "1 paused\n");
    let listed = server.run(&["schedule", "ls", "-o", "table"]).exits(0).out;
    assert!(listed.contains("paused: moving"), "{listed}");
    let job = server.run(&["schedule", "trigger", "nightly", "{\"kind\":\"all\"}"]).exits(0).json();
    let job = job["jobId"].as_str().expect("an id").to_owned();
    assert_eq!(server.run(&["job", "ls", "schedule_id = nightly", "-o", "id"]).exits(0).out, format!("{job}\n"));
    assert_eq!(server.run(&["job", "get", &job]).exits(0).json()["job"]["spec"]["payload"]["json"]["kind"], "all");
    server.run(&["schedule", "resume", "--filter", "paused = true"]).exits(0);

    let interval = ["--from", "2025-11-03T00:00:00Z", "--to", "2025-11-07T23:00:00Z", "-o", "table"];
    let backfill = |more: &[&str]| {
        let words = [&["schedule", "backfill", "nightly"], &interval[..], more].concat();
        server.run(&words).exits(0).out
    };
    assert_eq!(backfill(&["--dry-run"]), "5 of 5 ticks would run; nothing was changed, 0 had a job, 0 skipped\n");
    assert_eq!(backfill(&[]), "5 of 5 ticks run, 0 had a job, 0 skipped\n");
    assert_eq!(backfill(&[]), "0 of 5 ticks run, 5 had a job, 0 skipped\n");

    server.run(&["schedule", "rm", "--filter", "*"]).exits(2);
    assert_eq!(server.run(&["schedule", "rm", "--filter", "*", "--yes", "-o", "table"]).exits(0).out, "1 deleted\n");
    server.run(&["schedule", "delete", "nightly"]).exits(3);
}
