//! The binary `larder`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;
use larder_server::cli::{Cli, Command, LogFormat};
use larder_server::{demo, exit};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; nothing can be done about a closed terminal.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    log_to_stderr(cli.log, cli.log_level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&exit::Failure::unavailable("threads", &error)),
    };
    let Command::Demo(options) = cli.command;
    match runtime.block_on(demo::run(options, admin_token())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

#[expect(clippy::print_stderr, reason = "the binary's one place to say why it ends")]
fn fail(failure: &exit::Failure) -> ExitCode {
    eprintln!("larder: {failure}");
    failure.code()
}

#[expect(clippy::disallowed_methods, reason = "the binary's one place that reads the environment")]
fn admin_token() -> Option<String> {
    std::env::var("LARDER_ADMIN_TOKEN").ok().filter(|token| !token.is_empty())
}

fn log_to_stderr(format: LogFormat, level: tracing::level_filters::LevelFilter) {
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level);
    let logs = logs.with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => logs.compact().init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
