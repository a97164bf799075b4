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
}
