//! A job that nobody has sent yet.

use bytes::Bytes;
use jobwire_proto::v1 as pb;
use prost::Message;
use uuid::Uuid;

use crate::errors::Error;
use crate::options::Options;
use crate::payload::Payload;
use crate::task::Task;

/// What a server accepts in one message, at most.
const MESSAGE_MAX: usize = 3 << 20;

/// One job to be: what it is of, and everything said about it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub options: Options,
    payload: Result<Payload, Error>,
}

impl Draft {
    pub fn task<T: Task>(task: &T) -> Self {
        Self::new(T::TYPE.to_owned(), task.options_for(), Payload::json(task))
    }

    pub fn new(r#type: String, mut options: Options, payload: Result<Payload, Error>) -> Self {
        options.spec.r#type = r#type;
        Self { options, payload }
    }

    /// Other options for the same job.
    pub fn replace_options(&mut self, options: Options) {
        let r#type = std::mem::take(&mut self.options.spec.r#type);
        self.options = options;
        self.options.spec.r#type = r#type;
    }

    /// As somebody else will make jobs of it: without an id, if none was given.
    pub fn into_template(self) -> Result<pb::JobSpec, Error> {
        self.options.check()?;
        let mut spec = *self.options.spec;
        spec.payload = Some(self.payload?.into_proto());
        Ok(spec)
    }

    /// As it goes to the server, with an id.
    pub fn into_spec(self) -> Result<pb::JobSpec, Error> {
        let mut spec = self.into_template()?;
        if spec.id.is_empty() {
            spec.id = Uuid::now_v7().to_string();
        }
        Ok(spec)
    }

    pub fn into_bytes(self) -> Result<Bytes, Error> {
        encoded(&self.into_spec()?)
    }
}

/// A job as it will travel; refused here when no server would take it.
pub(crate) fn encoded(spec: &pb::JobSpec) -> Result<Bytes, Error> {
    let size = spec.encoded_len();
    if size > MESSAGE_MAX {
        return Err(Error::invalid(
            "job.payload",
            format!("the job has {size} bytes, a message at most {MESSAGE_MAX}"),
        ));
    }
    Ok(spec.encode_to_vec().into())
}
