//! The Lua scripts, and running them.

use std::sync::LazyLock;

use redis::{Cmd, Script, Value, cmd};

use crate::lane::{Failure, Lane};

/// A script and its name on the server, the SHA-1 of its text.
pub(crate) struct Lua {
    text: &'static str,
    script: LazyLock<Script>,
}

macro_rules! lua {
    ($($part:literal),+) => {{
        const TEXT: &str = concat!($(include_str!($part)),+);
        Lua { text: TEXT, script: LazyLock::new(|| Script::new(TEXT)) }
    }};
}

/// Opens the log.
pub(crate) static OPEN: Lua = lua!("lua/enter.lua", "lua/open.lua");
/// Appends a record.
pub(crate) static APPEND: Lua = lua!("lua/enter.lua", "lua/append.lua");
/// Stores a value.
pub(crate) static STORE: Lua = lua!("lua/store.lua");

impl Lua {
    /// Runs it on a server that may not know it (yet, or any more). `arguments` adds keys and arguments.
    ///
    /// The second attempt repeats nothing: a server that does not know a script has not run it.
    pub(crate) async fn run(
        &self,
        lane: &Lane,
        keys: usize,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Failure> {
        let call = |name: &str, script: &str| {
            let mut call = cmd(name);
            call.arg(script).arg(keys);
            arguments(&mut call);
            call
        };
        match lane.ask(&call("EVALSHA", self.script.get_hash())).await {
            Err(Failure::Refused(refusal)) if refusal.is_unknown_script() => {
                lane.ask(&call("EVAL", self.text)).await
            }
            answer => answer,
        }
    }
}
