//! Clients of Redis on a host of the lab. Each is a process, this executable again, as only a
//! process can enter a network namespace; it tells the times that it takes, line by line. Each write of
//! a writer sets a bit of its own, so that it can count in the end which of those that were acknowledged
//! the new master has not.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::common::{Host, PATIENCE, wait_for};

/// The arguments that make this executable one of the clients.
pub const WRITER: &str = "writer-child";
/// See [`WRITER`].
pub const BLOCKED: &str = "blocked-child";

/// How long the writer waits for a connection before it tries anew. Short, as a SYN that came
/// while no host had the VIP is sent again by the kernel only after 1 s.
const CONNECTED: Duration = Duration::from_millis(20);
/// How long it waits for an answer.
const ANSWERED: Duration = Duration::from_millis(500);
/// A time without an answer that is told, although the connection lived.
const GAP: Duration = Duration::from_millis(10);
/// Between attempts to connect.
const RETRY: Duration = Duration::from_millis(2);

/// The clock of the sniffer and of Sentinel's log.
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
}

/// A client that is at work.
pub struct Client {
    child: Child,
    told: Arc<Mutex<Vec<Vec<u64>>>>,
}

impl Client {
    /// Starts a client, which has been answered once when this returns. `key` is where a writer writes.
    pub fn start(host: &Host, role: &str, server: &str, key: &str) -> Client {
        let mut command = host.command(std::env::current_exe().unwrap());
        let mut child = command
            .args([role, server, key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let numbers = line.split_whitespace();
                let numbers = numbers.map(|number| number.parse().unwrap());
                sink.lock().unwrap().push(numbers.collect());
            }
        });
        let client = Client { child, told };
        let ready = || (!client.lines().is_empty()).then_some(());
        wait_for(PATIENCE, ready).expect("the client is answered");
        client
    }

    /// Returns what it told after its first answer. The writer, of each time without an answer: when
    /// the last write before it was answered, and the first after it. The blocked client: when it
    /// learned of the end.
    pub fn told(&self) -> Vec<Vec<Duration>> {
        let lines = self.lines().into_iter().skip(1);
        let times = |line: Vec<u64>| line.into_iter().map(Duration::from_nanos).collect();
        lines.map(times).collect()
    }

    /// Ends a writer. Returns how many writes were acknowledged, and how many of these this server has not.
    pub fn count(mut self, server: &str) -> (u64, u64) {
        let mut stdin = self.child.stdin.take().unwrap();
        stdin.write_all(server.as_bytes()).unwrap();
        drop(stdin);
        let counted = || match self.lines().pop()?[..] {
            [COUNTED, acknowledged, lost] => Some((acknowledged, lost)),
            _ => None,
        };
        wait_for(PATIENCE, counted).expect("the writer counts")
    }

    fn lines(&self) -> Vec<Vec<u64>> {
        self.told.lock().unwrap().clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the line of the counts begins with, which no time does.
const COUNTED: u64 = 0;

/// The child's part: writes as quickly as it is answered, until a server is named on its stdin, there
/// to count what it has.
pub fn write(server: &str, key: &str) {
    let server: SocketAddr = server.parse().unwrap();
    let (to, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let _ = io::stdin().read_line(&mut line);
        let _ = to.send(line);
    });
    let mut acknowledged: Vec<bool> = Vec::new();
    let mut last = None;
    loop {
        if let Ok(mut connection) = connect(server) {
            let mut is_first = true;
            loop {
                match ended.try_recv() {
                    // The round is over without it.
                    Ok(at) if at.is_empty() => return,
                    Ok(at) => return count(&at, key, &acknowledged),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
                }
                let bit = acknowledged.len();
                acknowledged.push(false);
                if ask(&mut connection, &format!("SETBIT {key} {bit} 1\r\n"), b":").is_err() {
                    break;
                }
                acknowledged[bit] = true;
                let answered = now();
                if is_first || last.is_some_and(|last| answered - last > GAP) {
                    tell(&last.map_or_else(Vec::new, |last| vec![last, answered]));
                }
                (last, is_first) = (Some(answered), false);
            }
        }
        thread::sleep(RETRY);
    }
}

/// Tells how many writes were acknowledged, and how many of these a server has not.
fn count(at: &str, key: &str, acknowledged: &[bool]) {
    let mut connection = TcpStream::connect(at.trim()).unwrap();
    let command = format!("GET {key}\r\nQUIT\r\n");
    connection.write_all(command.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer);
    let begin = answer.windows(2).position(|two| two == b"\r\n");
    let bits = answer.split_off(begin.map_or(answer.len(), |end| end + 2));
    let has = |bit: usize| {
        bits.get(bit / 8)
            .is_some_and(|byte| byte & (128 >> (bit % 8)) != 0)
    };
    let of: Vec<usize> = (0..acknowledged.len())
        .filter(|&bit| acknowledged[bit])
        .collect();
    let lost = of.iter().filter(|&&bit| !has(bit)).count();
    say(&format!("{COUNTED} {} {lost}", of.len()));
}

/// The child's part: subscribes, and tells when the connection ends.
pub fn block(server: &str) {
    let mut connection = connect(server.parse().unwrap()).unwrap();
    ask(&mut connection, "SUBSCRIBE bench\r\n", b"*3").unwrap();
    connection.set_read_timeout(None).unwrap();
    tell(&[]);
    while connection.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
    tell(&[now()]);
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&server, CONNECTED)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(ANSWERED))?;
    Ok(connection)
}

/// Sends a command; its answer must begin like this.
fn ask(connection: &mut TcpStream, command: &str, beginning: &[u8]) -> io::Result<()> {
    connection.write_all(command.as_bytes())?;
    let mut answer = [0; 256];
    let length = connection.read(&mut answer)?;
    if answer[..length].starts_with(beginning) {
        return Ok(());
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn tell(times: &[Duration]) {
    let words: Vec<String> = times
        .iter()
        .map(|time| time.as_nanos().to_string())
        .collect();
    say(&words.join(" "));
}

fn say(line: &str) {
    // Nobody listens any more when the lab is being taken down.
    if writeln!(io::stdout(), "{line}").is_err() {
        thread::sleep(PATIENCE);
    }
}
