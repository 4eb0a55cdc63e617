//! The executable: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(vipswitch::run(std::env::args_os()).code())
}
