//! What the compiler must refuse, as doc tests. The first one compiles; each of the others is the same program but for one
//! line that is wrong.
//!
//! ```no_run
//! use jobwire::prelude::*;
//! #[derive(Serialize, Deserialize)]
//! struct Add { a: i64 }
//! impl Task for Add { const TYPE: &'static str = "add"; type Output = i64; }
//! async fn add(ctx: Ctx<Add>, State(_): State<String>) -> Result<i64, JobError> { Ok(ctx.input().a) }
//! async fn program(client: Client) -> Result<(), Error> {
//!     let sum: i64 = client.enqueue(Add { a: 1 }).delay(secs(30)).await?.result().await?;
//!     Worker::builder(client).state(sum.to_string()).handle(add).run().await
//! }
//! ```
//!
//! The output has its type:
//! ```compile_fail
//! use jobwire::prelude::*;
//! #[derive(Serialize, Deserialize)]
//! struct Add { a: i64 }
//! impl Task for Add { const TYPE: &'static str = "add"; type Output = i64; }
//! async fn program(client: Client) -> Result<(), Error> {
//!     let sum: String = client.enqueue(Add { a: 1 }).await?.result().await?;
//!     Ok(())
//! }
//! ```
//!
//! An input that is no task:
//! ```compile_fail
//! use jobwire::prelude::*;
//! async fn program(client: Client) -> Result<(), Error> {
//!     client.enqueue("add").await?;
//!     Ok(())
//! }
//! ```
//!
//! A duration is no number and no text:
//! ```compile_fail
//! use jobwire::prelude::*;
//! fn options() -> Options { Options::new().delay("30 parsecs") }
//! ```
//!
//! A handler gives what its task promises:
//! ```compile_fail
//! use jobwire::prelude::*;
//! #[derive(Serialize, Deserialize)]
//! struct Add { a: i64 }
//! impl Task for Add { const TYPE: &'static str = "add"; type Output = i64; }
//! async fn add(ctx: Ctx<Add>) -> Result<String, JobError> { Ok(ctx.input().a.to_string()) }
//! fn program(client: Client) { let _ = Worker::builder(client).handle(add); }
//! ```
//!
//! States come behind the context:
//! ```compile_fail
//! use jobwire::prelude::*;
//! #[derive(Serialize, Deserialize)]
//! struct Add { a: i64 }
//! impl Task for Add { const TYPE: &'static str = "add"; type Output = i64; }
//! async fn add(State(_): State<String>, ctx: Ctx<Add>) -> Result<i64, JobError> { Ok(ctx.input().a) }
//! fn program(client: Client) { let _ = Worker::builder(client).handle(add); }
//! ```
//!
//! No lease token and no protobuf type is public:
//! ```compile_fail
//! fn token(ctx: jobwire::RawCtx) { let _ = ctx.token(); }
//! ```
