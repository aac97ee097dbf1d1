//! Questions before something big.
use std::io::{self, IsTerminal as _, Write as _};

use super::exit::Failure;

/// Asks on stderr and reads the answer from the terminal; anything but `y` or `yes` is no. `yes` = do not ask. Without a
/// terminal there is no one to ask, and the command says what to add.
pub fn confirm(question: &str, yes: bool) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::usage(format!("{question}\nThere is no terminal to answer on: add --yes to go ahead")));
    }
    eprint!("{question} [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| Failure::usage(format!("no answer: {error}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
