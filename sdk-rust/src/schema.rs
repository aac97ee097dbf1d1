//! JSON schemas of tasks, for documentation and for producers in other languages.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};

pub use schemars::JsonSchema;

use crate::task::Task;

/// What a task takes and gives, as JSON Schema 2020-12.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct TaskSchema {
    /// Name of the job type.
    pub r#type: &'static str,
    /// Queue that its jobs go to.
    pub queue: String,
    /// The input.
    pub input: Schema,
    /// The output.
    pub output: Schema,
}

/// The schema of a task. Derive [`JsonSchema`] on its input and its output.
///
/// ```
/// # use jobwire::prelude::*;
/// use jobwire::schema::{JsonSchema, schema};
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct SendMail { to: String }
/// impl Task for SendMail { const TYPE: &'static str = "email.send"; type Output = Option<u64>; }
///
/// let schema = schema::<SendMail>();
/// assert_eq!(schema.input.pointer("/properties/to/type").unwrap(), "string");
/// println!("{}", serde_json::to_string_pretty(&schema).unwrap());
/// ```
pub fn schema<T>() -> TaskSchema
where
    T: Task + JsonSchema,
    T::Output: JsonSchema,
{
    let settings = SchemaSettings::draft2020_12;
    TaskSchema {
        r#type: T::TYPE,
        queue: T::options().queue_or(T::TYPE).to_owned(),
        input: SchemaGenerator::new(settings().for_serialize()).into_root_schema_for::<T>(),
        output: SchemaGenerator::new(settings().for_serialize()).into_root_schema_for::<T::Output>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Resize {
        /// Where the picture is.
        path: String,
        width: Option<u32>,
    }

    impl Task for Resize {
        const TYPE: &'static str = "img.resize";
        type Output = Vec<String>;
        fn options() -> crate::Options {
            crate::Options::new().queue("images")
        }
    }

    #[test]
    fn input_and_output_are_described() {
        let schema = schema::<Resize>();
        assert_eq!((schema.r#type, schema.queue.as_str()), ("img.resize", "images"));
        let at = |pointer: &str| schema.input.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/properties/path/description"), "Where the picture is.");
        assert_eq!(schema.output.pointer("/items/type").cloned().unwrap_or_default(), "string");
        let json = serde_json::to_value(&schema).expect("JSON");
        assert_eq!(json["type"], "img.resize");
    }
}
