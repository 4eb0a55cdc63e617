//! Clients of Redis on a host of the lab. Each is a process, this executable again, as only a
//! process can enter a network namespace; it tells the times that it takes, line by line.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
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
const ANSWERED: Duration = Duration::from_millis(100);
/// Between an answer and the next write.
const PACE: Duration = Duration::from_millis(1);
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
    told: Arc<Mutex<Vec<Vec<Duration>>>>,
}

impl Client {
    /// Starts a client, which has been answered once when this returns.
    pub fn start(host: &Host, role: &str, server: &str) -> Client {
        let mut command = host.command(std::env::current_exe().unwrap());
        let mut child = command
            .args([role, server])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let times = line
                    .split_whitespace()
                    .map(|number| number.parse().unwrap());
                sink.lock()
                    .unwrap()
                    .push(times.map(Duration::from_nanos).collect());
            }
        });
        let client = Client { child, told };
        let ready = || (!client.lines().is_empty()).then_some(());
        wait_for(PATIENCE, ready).expect("the client is answered");
        client
    }

    /// Returns what it told after its first answer. The writer, of each further connection: when
    /// the last write before it was answered, and the first on it. The blocked client: when it
    /// learned of the end.
    pub fn told(&self) -> Vec<Vec<Duration>> {
        self.lines().split_off(1)
    }

    fn lines(&self) -> Vec<Vec<Duration>> {
        self.told.lock().unwrap().clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's part: writes without end.
pub fn write(server: &str) {
    let server: SocketAddr = server.parse().unwrap();
    let mut last = None;
    loop {
        if let Ok(mut connection) = connect(server) {
            let mut is_first = true;
            while ask(&mut connection, "SET bench 1\r\n", b"+OK").is_ok() {
                let answered = now();
                if is_first {
                    tell(&last.map_or_else(Vec::new, |last| vec![last, answered]));
                }
                (last, is_first) = (Some(answered), false);
                thread::sleep(PACE);
            }
        }
        thread::sleep(RETRY);
    }
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
    // Nobody listens any more when the lab is being taken down.
    if writeln!(io::stdout(), "{}", words.join(" ")).is_err() {
        thread::sleep(PATIENCE);
    }
}
