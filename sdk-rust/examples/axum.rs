//! axum: a client is a state like any other. The worker may live in the same process, or in another one.
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jobwire::JobState;
use jobwire::prelude::{Client, Ctx, Deserialize, JobError, Options, Serialize, Task, Worker};

#[derive(Serialize, Deserialize)]
struct Resize {
    path: String,
}

impl Task for Resize {
    const TYPE: &'static str = "img.resize";
    type Output = String;
    fn options_for(&self) -> Options {
        Self::options().unique(&self.path)
    }
}

async fn resize(ctx: Ctx<Resize>) -> Result<String, JobError> {
    Ok(format!("{}.small", ctx.input().path))
}

// [routes]
fn routes(client: Client) -> Router {
    Router::new().route("/pictures", post(upload)).route("/jobs/{id}", get(status)).with_state(client)
}

async fn upload(State(client): State<Client>, Json(input): Json<Resize>) -> Result<(StatusCode, String), StatusCode> {
    let job = client.enqueue(input).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok((StatusCode::ACCEPTED, job.id().to_owned()))
}

async fn status(State(client): State<Client>, Path(id): Path<String>) -> Result<String, StatusCode> {
    let job = client.job(id).typed::<String>();
    match job.status().await {
        Ok(info) if info.state == JobState::Succeeded => job.result().await.map_err(|_| StatusCode::BAD_GATEWAY),
        Ok(info) => Ok(info.state.to_string()),
        Err(_) => Err(StatusCode::NOT_FOUND),
    }
}
// [/routes]

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    tokio::spawn(Worker::builder(client.clone()).handle(resize).run_until(std::future::pending()));
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, routes(client)).await?;
    Ok(())
}
