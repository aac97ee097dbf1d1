//! The recipes of the documents, `rpc Service/Method '{…}'`, run against a real server: each body is what the contract
//! knows, and nothing is refused that is not said to be.
use std::{fs, time::Duration};

use jobwire_tests::{
    dynamic::{self, Raw},
    process,
    server::{Server, Store},
};
use tonic::{Code, client::Grpc, transport::Channel};

const PAGES: [&str; 5] =
    ["README.md", "docs/by-hand.md", "docs/schedules.md", "docs/unique-jobs.md", "docs/retries.md"];
/// Stands in for the token that a reader copies from an answer.
const TOKEN: &str = "AaING48DcAC6L6wcNFM3cz178ryjI3uo";
/// Longest that a recipe is let wait for jobs that nobody works on here.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, PartialEq, Eq)]
struct Recipe {
    line: usize,
    method: String,
    body: String,
    /// The document says that it is refused, with this code.
    refused: Option<String>,
}

/// Calls of `rpc`, with the bodies that run over several lines, and the code in the comment below.
fn recipes(page: &str) -> Vec<Recipe> {
    let lines: Vec<&str> = page.lines().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = at + 1;
        let Some((method, rest)) = lines[at].strip_prefix("rpc ").and_then(|call| call.split_once(" '")) else {
            at += 1;
            continue;
        };
        // A token spliced in by the shell, '"$T"' without the double quotes, would look like the end of the body.
        let mut body = rest.replace("'$T'", TOKEN);
        while !body.contains('\'') {
            at += 1;
            body.push_str(&lines[at].replace("'$T'", TOKEN));
        }
        body.truncate(body.find('\'').expect("the loop ended at one"));
        at += 1;
        let below = lines.get(at).copied().unwrap_or_default();
        let refused = below.strip_prefix("# Code: ").map(|rest| rest.split(' ').next().unwrap_or(rest).to_owned());
        found.push(Recipe { line, method: method.to_owned(), body, refused });
    }
    found
}

/// Makes the call and gives the code. Streams of requests get one.
async fn call(channel: Channel, recipe: &Recipe) -> Result<(Code, String), String> {
    let method = dynamic::method(&recipe.method)?;
    let json = serde_json::from_str(&recipe.body).map_err(|error| error.to_string())?;
    let bytes = dynamic::encode(method.input(), &json)?;
    let path = format!("/jobwire.v1.{}", recipe.method).parse().expect("a method makes a path");
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| error.to_string())?;
    let request = tonic::Request::new(tokio_stream::once(bytes));
    // What HTTP/2 carries is the same for all kinds of calls; the first answer tells enough.
    let answer = tokio::time::timeout(PATIENCE, async {
        match grpc.streaming(request, path, Raw).await {
            Ok(answer) => answer.into_inner().message().await.err(),
            Err(status) => Some(status),
        }
    });
    Ok(match answer.await {
        Ok(Some(status)) => (status.code(), status.message().to_owned()),
        Ok(None) => (Code::Ok, String::new()),
        Err(_) => (Code::DeadlineExceeded, String::new()),
    })
}

#[tokio::test]
async fn what_the_documents_say_can_be_typed() {
    let server = Server::start(Store::Memory, &[]);
    let channel = server.clients().channel;
    let mut complaints = Vec::new();
    let mut run = 0;
    for name in PAGES {
        let page = fs::read_to_string(process::root().join(name)).expect("the page is there");
        for recipe in recipes(&page) {
            run += 1;
            let place = format!("{name}:{}: {}", recipe.line, recipe.method);
            match (call(channel.clone(), &recipe).await, &recipe.refused) {
                (Err(error), _) => complaints.push(format!("{place}: {error}")),
                (Ok((code, _)), Some(said)) if format!("{code:?}") == *said => {}
                (Ok((code, _)), Some(said)) => complaints.push(format!("{place}: {code:?}, not {said}")),
                // Ids and tokens in a document are those of another run; nobody works on the jobs here.
                (Ok((Code::Ok | Code::NotFound | Code::DeadlineExceeded, _)), None) => {}
                (Ok((code, message)), None) => complaints.push(format!("{place}: {code:?}: {message}")),
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(run > 30, "only {run} recipes were found");
}

#[test]
fn recipes_are_found_with_their_bodies() {
    let page = "text\nrpc A/B '{\"x\": 1}'   # comment\nrpc C/D '{\"t\": \"'$T'\",\n  \"u\": 2}'\nrpc E/F '{}'\n# Code: NotFound  x\n";
    let found = recipes(page);
    assert_eq!(found[0], Recipe { line: 2, method: "A/B".into(), body: "{\"x\": 1}".into(), refused: None });
    assert_eq!(found[1].body, format!("{{\"t\": \"{TOKEN}\",  \"u\": 2}}"));
    assert_eq!(found[2].refused.as_deref(), Some("NotFound"));
    assert_eq!(found.len(), 3);
}
