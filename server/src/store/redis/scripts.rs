//! The scripts: what must happen in one step inside Redis, and nothing else. Each has one caller.
use super::conn::Script;

/// A script with what all of them share before it. Those that only make room, or finish what was begun, also run when Redis
/// is out of memory; a put does not.
macro_rules! script {
    ($flags:literal, $($file:literal),+) => {
        Script::new(concat!(
            "#!lua",
            $flags,
            "\nlocal MAX_FINISHED, MAX_DEAD, TOMBSTONE_MS = 100000, 1000000, 60000\n",
            include_str!("lua/common.lua"),
            $(include_str!($file)),+
        ))
    };
}

pub(super) static PUT: Script = script!("", "lua/strands.lua", "lua/put.lua");
pub(super) static CLAIM: Script = script!(" flags=allow-oom", "lua/strands.lua", "lua/turns.lua", "lua/claim.lua");
pub(super) static MOVE: Script = script!(" flags=allow-oom", "lua/strands.lua", "lua/move.lua");
pub(super) static DUE: Script = script!(" flags=allow-oom", "lua/due.lua");
pub(super) static QUEUE: Script = script!(" flags=allow-oom", "lua/queue.lua");
pub(super) static CONFIGURE: Script = script!(" flags=allow-oom", "lua/strands.lua", "lua/configure.lua");
pub(super) static THROTTLE: Script = script!(" flags=allow-oom", "lua/throttle.lua");
pub(super) static DOC: Script = script!(" flags=allow-oom", "lua/doc.lua");
pub(super) static HINTS: Script = script!(" flags=no-writes,allow-oom", "lua/hints.lua");
pub(super) static LISTED: Script = script!(" flags=no-writes,allow-oom", "lua/listed.lua");
pub(super) static SETTLE: Script = script!(" flags=allow-oom", "lua/strands.lua", "lua/settle.lua");
pub(super) static STAND: Script = script!("", "lua/strands.lua", "lua/stand.lua");
pub(super) static MEND: Script = script!(" flags=allow-oom", "lua/mend.lua");
pub(super) static LOG: Script = script!(" flags=allow-oom", "lua/log.lua");

#[cfg(test)]
mod tests {
    use crate::model::{
        policy::TOMBSTONE_MS,
        queue::{MAX_DEAD, MAX_FINISHED},
    };

    #[test]
    fn the_numbers_before_a_script_are_those_of_the_model() {
        assert_eq!((MAX_FINISHED, MAX_DEAD, TOMBSTONE_MS), (100_000, 1_000_000, 60_000));
    }
}
