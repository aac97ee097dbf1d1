//! The settings as command-line flags, made from the list of keys.
use std::{collections::BTreeMap, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::{Config, KEYS};

/// What the command line said.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--print-config`: show instead of serve.
    pub print: bool,
    /// By key.
    pub values: BTreeMap<&'static str, String>,
    /// What counts as default; commands may have their own.
    pub base: Config,
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let defaults = Config::default();
        let command = command
            .arg(
                Arg::new("config")
                    .long("config")
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .help("TOML file with the settings below, written with _ for - [env: JOBWIRE_CONFIG]"),
            )
            .arg(
                Arg::new("print_config")
                    .long("print-config")
                    .action(ArgAction::SetTrue)
                    .help("Print every setting and where its value comes from, then exit"),
            );
        KEYS.iter().fold(command, |command, key| {
            let default = match (key.get)(&defaults) {
                Some(text) if text != "false" => format!(" [default: {text}]"),
                _ => String::new(),
            };
            let arg = Arg::new(key.name).long(key.flag()).value_name(key.value).help_heading("Settings").help(format!(
                "{}{default} [env: {}]",
                key.help,
                key.env()
            ));
            command.arg(if key.value == "true|false" {
                arg.num_args(0..=1).require_equals(true).default_missing_value("true")
            } else {
                arg
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        self.print = matches.get_flag("print_config");
        for key in KEYS {
            if let Some(text) = matches.get_one::<String>(key.name) {
                self.values.insert(key.name, text.clone());
            }
        }
        Ok(())
    }
}
