//! A process of this executable on a host of the lab, as only a process can enter a network namespace. It tells what
//! it sees, line by line, and may be asked for more.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::common::Host;

/// Begins each line that a child tells: the test harness writes lines of its own.
const MARK: &str = "@ ";

/// Names the part that a child plays.
const PART: &str = "VIPSWITCH_SOAK_PART";

/// The clock of all children.
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
}

/// A child at work.
pub struct Child {
    process: Process,
    told: Arc<Mutex<Vec<String>>>,
}

impl Child {
    /// Starts a child on a host, in a part: the name of an ignored test.
    pub fn start(host: &Host, part: &str) -> Child {
        let mut command = host.command(std::env::current_exe().unwrap());
        command.args(["--exact", part, "--ignored", "--nocapture"]);
        command.env(PART, part);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(told) = line.strip_prefix(MARK) {
                    sink.lock().unwrap().push(told.to_owned());
                }
            }
        });
        Child { process, told }
    }

    /// Returns what it told since this was last asked for.
    pub fn news(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// Sends it a line.
    pub fn ask(&self, line: &str) {
        let mut stdin = self.process.stdin.as_ref().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether this process was started as a child, and not by somebody who runs ignored tests.
pub fn is_child() -> bool {
    std::env::var_os(PART).is_some()
}

/// The child's part: tells a line. It ends when nobody listens any more.
pub fn tell(line: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{MARK}{line}")
        .and_then(|()| out.flush())
        .is_err()
    {
        // The lab is being taken down, which ends this process, too.
        drop(out);
        thread::sleep(Duration::from_secs(3600));
    }
}

/// A connection to Redis or Sentinel, with a deadline for each answer.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects.
    pub fn open(to: SocketAddr, connected: Duration, answered: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&to, connected)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(answered))?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// Asks, and returns the answer's first line and, of a bulk string, its bytes.
    pub fn ask(&mut self, command: &str) -> io::Result<(String, Vec<u8>)> {
        self.0.get_mut().write_all(command.as_bytes())?;
        self.answer()
    }

    /// Returns the elements of an array of strings, as text; nothing but the number where it is another answer.
    pub fn ask_list(&mut self, command: &str) -> io::Result<Vec<String>> {
        let (first, bytes) = self.ask(command)?;
        let Some(number) = first
            .strip_prefix('*')
            .and_then(|number| number.parse().ok())
        else {
            return Ok(vec![first, String::from_utf8_lossy(&bytes).into_owned()]);
        };
        let mut all = Vec::new();
        for _ in 0..number {
            self.element(&mut all)?;
        }
        Ok(all)
    }

    fn element(&mut self, into: &mut Vec<String>) -> io::Result<()> {
        let (first, bytes) = self.answer()?;
        match first
            .strip_prefix('*')
            .and_then(|number| number.parse().ok())
        {
            Some(number) => (0u32..number).try_for_each(|_| self.element(into)),
            None if first.starts_with('$') => {
                into.push(String::from_utf8_lossy(&bytes).into_owned());
                Ok(())
            }
            None => {
                into.push(first);
                Ok(())
            }
        }
    }

    fn answer(&mut self) -> io::Result<(String, Vec<u8>)> {
        let mut first = String::new();
        if self.0.read_line(&mut first)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let first = first.trim_end().to_owned();
        let length: Option<usize> = first.strip_prefix('$').and_then(|it| it.parse().ok());
        let mut bytes = Vec::new();
        if let Some(length) = length {
            bytes.resize(length + 2, 0);
            io::Read::read_exact(&mut self.0, &mut bytes)?;
            bytes.truncate(length);
        }
        Ok((first, bytes))
    }
}
