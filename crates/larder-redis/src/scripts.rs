//! The Lua scripts, and running them.

use std::sync::LazyLock;

use redis::{Cmd, Script, Value, cmd};

use crate::lane::{Ask, Failure};

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
pub(crate) static STORE: Lua = lua!("lua/held.lua", "lua/store.lua");
/// Asks for a lease.
pub(crate) static LEASE: Lua = lua!("lua/held.lua", "lua/lease.lua");
/// Extends a lease.
pub(crate) static EXTEND: Lua = lua!("lua/held.lua", "lua/extend.lua");
/// Gives a lease back.
pub(crate) static RELEASE: Lua = lua!("lua/held.lua", "lua/release.lua");
/// Counts bytes to a share.
pub(crate) static RESERVE: Lua = lua!("lua/parts.lua", "lua/reserve.lua");
/// Takes bytes back from a share.
pub(crate) static GIVE_BACK: Lua = lua!("lua/parts.lua", "lua/give_back.lua");
/// Removes a value that has not changed.
pub(crate) static DISCARD: Lua = lua!("lua/discard.lua");

impl Lua {
    /// Runs it on a server that may not know it (yet, or any more). `arguments` adds keys and arguments.
    ///
    /// The second attempt repeats nothing: a server that does not know a script has not run it.
    pub(crate) async fn run(
        &self,
        to: &impl Ask,
        keys: usize,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Failure> {
        let call = |by| {
            let mut call = self.call(by, keys);
            arguments(&mut call);
            call
        };
        match to.ask(&call(By::Name)).await {
            Err(Failure::Refused(refusal)) if refusal.is_unknown_script() => to.ask(&call(By::Text)).await,
            answer => answer,
        }
    }

    /// A call of it, still without keys and arguments.
    pub(crate) fn call(&self, by: By, keys: usize) -> Cmd {
        let mut call = match by {
            By::Name => cmd("EVALSHA"),
            By::Text => cmd("EVAL"),
        };
        match by {
            By::Name => call.arg(self.script.get_hash()),
            By::Text => call.arg(self.text),
        };
        call.arg(keys);
        call
    }
}

/// How a script is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Short, if the server knows it.
    Name,
    /// Always understood, and remembered.
    Text,
}
