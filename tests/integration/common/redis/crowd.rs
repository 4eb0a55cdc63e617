//! Many clients that wait in SUBSCRIBE, in one process, and notice how and when their connections end.

use std::fs;
use std::path::PathBuf;

use super::{CLIENT, Process, Site};
use crate::common::eventually;

/// What a client does when its connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays away.
    Nothing,
    /// It connects anew at once, from the same port of its own.
    Reconnect,
}

/// Clients of one address and port.
pub struct Crowd {
    file: PathBuf,
    _process: Process,
}

/// A connection that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// When, in seconds since 1970.
    pub at: f64,
    /// The client's own port.
    pub port: u16,
    /// Whether it was the client's first connection.
    pub is_first: bool,
    /// How: an error in words, or `closed`.
    pub how: String,
}

impl Site {
    /// Connects so many clients to an address and port, and waits until each waits in SUBSCRIBE there.
    #[track_caller]
    pub fn crowd(&self, (address, port): (&str, u16), number: usize, after: After) -> Crowd {
        let file = self.lab.unique("crowd");
        fs::write(&file, "").unwrap();
        let mut perl = self.host(CLIENT).command("sh");
        // Each takes a file.
        perl.args(["-c", "ulimit -n $(ulimit -Hn); exec perl -e \"$0\" \"$@\""]);
        perl.args([CROWD, address, &port.to_string(), &number.to_string()]);
        let again = if after == After::Reconnect {
            "again"
        } else {
            ""
        };
        perl.arg(&file).arg(again);
        let process = Process::start(perl, self.lab.unique("crowd"));
        let crowd = Crowd {
            file,
            _process: process,
        };
        eventually("the crowd is connected", || crowd.lines("ready") == 1);
        crowd
    }
}

impl Crowd {
    /// Returns the connections that have ended, in the order of time.
    pub fn ended(&self) -> Vec<End> {
        let text = fs::read_to_string(&self.file).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let ends = whole.lines().filter_map(|line| line.strip_prefix("end "));
        ends.map(|line| {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            let [at, port, is_first, how] = words[..] else {
                panic!("{line}")
            };
            End {
                at: at.parse().unwrap(),
                port: port.parse().unwrap(),
                is_first: is_first == "1",
                how: how.to_owned(),
            }
        })
        .collect()
    }

    /// Returns how many clients have connected anew, and wait in SUBSCRIBE again.
    pub fn back(&self) -> usize {
        self.lines("back")
    }

    /// Waits until so many connections have ended, and returns how.
    #[track_caller]
    pub fn wait_for_ends(&self, number: usize) -> Vec<End> {
        eventually("the connections end", || self.ended().len() >= number);
        self.ended()
    }

    fn lines(&self, word: &str) -> usize {
        let text = fs::read_to_string(&self.file).unwrap();
        text.lines().filter(|line| line.starts_with(word)).count()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // In the lab it is another process that is to end.
        let _ = fs::write(self.file.with_extension("stop"), "");
    }
}

/// Perl: connects clients, and notes each end.
const CROWD: &str = r#"
use Socket; use Fcntl; use Time::HiRes qw(time sleep);
my ($address, $port, $number, $file, $again) = @ARGV;
open my $notes, ">>", $file or die;
$SIG{PIPE} = "IGNORE";
my $v6 = $address =~ /:/;
my $family = $v6 ? AF_INET6 : AF_INET;
my $to = $v6 ? pack_sockaddr_in6($port, Socket::inet_pton(AF_INET6, $address)) : pack_sockaddr_in($port, inet_aton($address));
my ($open, @clients, @ports, @first) = ("");
sub client {
    my ($from) = @_;
    socket(my $client, $family, SOCK_STREAM, 0) or die $!;
    setsockopt($client, SOL_SOCKET, SO_REUSEADDR, 1);
    if ($from) { bind($client, $v6 ? pack_sockaddr_in6($from, IN6ADDR_ANY) : pack_sockaddr_in($from, INADDR_ANY)) or return }
    connect($client, $to) or return;
    syswrite $client, "SUBSCRIBE crowd\r\n";
    sysread($client, my $told, 999) or return;
    my $number = fileno $client;
    my $name = getsockname $client;
    ($ports[$number]) = $v6 ? unpack_sockaddr_in6($name) : unpack_sockaddr_in($name);
    $clients[$number] = $client; $first[$number] = $from ? 0 : 1; vec($open, $number, 1) = 1;
    return 1;
}
for (1 .. $number) { client() or die "connect: $!" }
syswrite $notes, "ready\n";
my @gone;
until (-e "$file.stop") {
    my $ready = $open;
    select $ready, undef, undef, @gone ? 0.01 : 0.1;
    my ($bits, $from, $lines) = (unpack("b*", $ready), 0, "");
    while (($from = index $bits, "1", $from) >= 0) {
        my $number = $from++;
        my $read = sysread $clients[$number], my $said, 999;
        next if $read;
        my $how = defined $read ? "closed" : "$!";
        $lines .= sprintf "end %.6f %d %d %s\n", time, $ports[$number], $first[$number], $how;
        vec($open, $number, 1) = 0;
        push @gone, $ports[$number] if $again;
        undef $clients[$number];
    }
    syswrite $notes, $lines if length $lines;
    for (my @now = splice @gone) { if (client($_)) { syswrite $notes, "back\n" } else { push @gone, $_ } }
}
"#;
