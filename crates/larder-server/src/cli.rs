//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::demo::catalog::Level;

/// Caches the answers of web APIs and the queries behind them.
#[derive(Debug, Parser)]
#[command(name = "larder", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How log lines look; they go to standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,

    /// What is logged: off, error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    pub log_level: tracing::level_filters::LevelFilter,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a sample API with its routes cached, and prints what to try.
    ///
    /// A search over home automations on an embedded database: facets, search, statistics and repositories, with writes
    /// that invalidate what they change. Needs nothing installed.
    Demo(Demo),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Options of `larder demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Demo {
    /// Where the API listens [default: 127.0.0.1:8080; with --check any free port].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Where the admin API listens [default: 127.0.0.1:9090; with --check any free port].
    ///
    /// Only clients on this machine are let in, unless the environment variable LARDER_ADMIN_TOKEN sets a token; it must
    /// if the address is not of this machine.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<SocketAddr>,

    /// A Redis or Valkey behind the memory of the process, as redis://127.0.0.1:6379.
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,

    /// How much sample data: 1 = 50 repositories and 500 automations, 2 = 500 and 5,000, 3 = 5,000 and 50,000.
    #[arg(long, value_name = "1|2|3", default_value = "2")]
    pub level: Level,

    /// Where the data is kept; several processes may share it [default: a temporary file].
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,

    /// Runs every printed line against itself, compares status and headers, and ends: 0 if all agree, 1 if not.
    #[arg(long)]
    pub check: bool,

    /// With --check: starts so many processes on one catalog and one Redis, and writes and reads through all of them
    /// while Redis is emptied and restarted, connections are cut and a process is killed. No read that names the token of
    /// a write may answer anything older.
    ///
    /// Without --redis it starts a redis-server of its own, if that program is installed. One given by --redis is not
    /// restarted, and only what this check has stored is deleted from it.
    #[arg(long, value_name = "N", requires = "check", conflicts_with_all = ["listen", "admin"],
          value_parser = clap::value_parser!(u8).range(2..=16))]
    pub nodes: Option<u8>,

    /// With --nodes: how often something is written and read.
    #[arg(long, value_name = "R", requires = "nodes", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub rounds: u32,

    /// With --nodes: what the random numbers begin with [default: another one each time].
    #[arg(long, value_name = "S", requires = "nodes")]
    pub seed: Option<u64>,
}
