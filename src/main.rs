//! Entry point of the binary: passes the command line to the library.

use skep::app::Program;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Inside the sandbox the executable runs as a helper instead.
    if let Some(code) = skep::app::run_sandbox_helper(std::env::args_os()) {
        return code;
    }
    if let Some(code) = skep::app::run_if_init() {
        return code;
    }
    skep::app::protect_memory();
    skep::telemetry::install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the async runtime: {error}\nfix: check the limits of this user (ulimit -a)");
            return ExitCode::FAILURE;
        }
    };
    let program = Program::default();
    runtime.block_on(skep::cli::main(&program))
}
