//! The executable: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use vipswitch::exit::Exit;
use vipswitch::{inherited_files, log, once};

fn main() -> ExitCode {
    let started = Instant::now();
    log::install_panic_hook();
    inherited_files::close();
    let exit = match event_loop(started) {
        Ok(event_loop) => {
            let exit = event_loop.block_on(vipswitch::run(std::env::args_os(), started));
            // A thread may still wait for a disk that hangs.
            event_loop.shutdown_background();
            exit
        }
        Err(error) => {
            let text = format!(
                "msg=\"cannot open the event loop: {error}\" exit={}",
                Exit::Passing.code()
            );
            log::at_once(log::Level::Warning, &text);
            Exit::Passing
        }
    };
    ExitCode::from(exit.code())
}

/// Too many open files, for example, may pass.
fn event_loop(started: Instant) -> std::io::Result<tokio::runtime::Runtime> {
    let mut pause = Duration::ZERO;
    loop {
        match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Err(_) if started.elapsed() + pause < once::PATIENCE => {
                pause = (pause * 2).clamp(once::FIRST_PAUSE, once::LONGEST_PAUSE);
                std::thread::sleep(pause);
            }
            result => return result,
        }
    }
}
