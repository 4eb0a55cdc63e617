//! Faults of the kernel, through strace: system calls that fail, answers that are lost or late, and
//! an address that changes meanwhile.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::common::{
    Finished, Host, ONLY_V4, V4_BOUND, end_of, eventually, executable, finish, guides_lab,
};

const CALL: [&str; 7] = ["m", "leader", "start", "", "1", "192.168.56.101", "1"];

const AWAY: [&str; 7] = ["m", "leader", "start", "", "1", "192.168.56.102", "1"];

/// Runs the executable with a system call that fails, through strace, whose trace of that call is
/// on stderr.
fn with_fault(host: &Host, fault: &str, arguments: &[&str]) -> Finished {
    let call = fault.split(':').next().unwrap();
    let mut command = host.command("strace");
    command.args([
        "-f",
        "-b",
        "execve",
        "-qq",
        "-e",
        &format!("trace={call},sendto"),
        "-e",
        &format!("inject={fault}"),
    ]);
    command.arg(executable()).args(arguments);
    finish(command)
}

#[test]
fn a_blocked_or_forbidden_socket_is_permanent_and_named() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    for (errno, said) in [
        ("EAFNOSUPPORT", "RestrictAddressFamilies="),
        ("EACCES", "SELinux"),
    ] {
        let runs: Vec<Finished> = (1..=9)
            .map(|nth| with_fault(&server, &format!("socket:error={errno}:when={nth}"), &CALL))
            // Without the first, which is the lock's, it goes on.
            .filter(|run| run.code() != 0)
            .map(|run| run.fails(2, &[said]))
            .collect();
        for what in ["open a netlink socket", "open a packet socket on eth1"] {
            assert!(runs.iter().any(|run| run.stderr.contains(what)), "{what}");
        }
    }
}

/// Fails each system call of a run in turn, and lets an undisturbed run follow. Whatever the
/// disturbed run says of itself must be true.
fn no_fault_is_taken_for_an_answer(config: &str, prepare: &str, arguments: &[&str], bound: bool) {
    let lab = guides_lab(config);
    let server = lab.host("server1");
    for call in ["sendto", "recvfrom"] {
        for nth in 1.. {
            server.ok(&format!("{prepare} -q"));
            let run = with_fault(
                &server,
                &format!("{call}:error=ENOBUFS:when={nth}"),
                arguments,
            );
            let injected = run.stderr.contains("(INJECTED)");
            if run.stderr.contains("the CLOEXEC pipe failed") {
                break; // The standard library's own pipe, to the announcer that it starts.
            }
            assert!(matches!(run.code(), 0 | 1), "{call} {nth}: {run}");
            assert_eq!(server.has(V4_BOUND), bound, "{call} {nth}: {run}");
            assert!(run.code() == 0, "{call} {nth}: {run}");
            if !injected {
                assert!(nth > 4, "{call}: {run}");
                break;
            }
        }
    }
}

#[test]
fn no_fault_of_a_take_over_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(ONLY_V4, "unbind", &CALL, true);
}

#[test]
fn no_fault_of_a_repeated_take_over_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(ONLY_V4, "bind", &CALL, true);
}

#[test]
fn no_fault_with_a_configured_interface_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(
        "[masters.m]\nvip = \"192.168.56.250/24\"\ninterface = \"eth1\"\n",
        "unbind",
        &["bind"],
        true,
    );
}

#[test]
fn no_fault_of_a_release_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(ONLY_V4, "bind", &AWAY, false);
}

#[test]
fn no_fault_of_unbind_is_taken_for_an_answer() {
    no_fault_is_taken_for_an_answer(ONLY_V4, "bind", &["unbind"], false);
}

#[test]
fn passing_faults_of_the_kernel_are_retried_within_the_run() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    // A request that cannot be sent breaks the connection to the kernel, so that another attempt follows. Of
    // the last ones, which call of the run fails depends on the runtime.
    let faults = [
        ("sendto:error=EBUSY:when=1", Some("tries=2 ")),
        ("sendto:error=EINTR:when=2", Some("tries=2 ")),
        ("sendto:error=ENOMEM:when=3", Some("tries=2 ")),
        ("sendto:error=EBUSY:when=4", Some("tries=2 ")),
        ("sendto:error=ENETDOWN:when=5", Some("tries=2 ")),
        ("recvfrom:error=EINTR:when=2", None),
        ("bind:error=ENOBUFS:when=2", None),
        // The first one is for the agent, the second for the lock.
        ("socket:error=ENOBUFS:when=3", Some("tries=2 ")),
        ("socket:error=EMFILE:when=4", None),
        ("epoll_create1:error=ENOMEM:when=1", None),
    ];
    for (fault, _) in faults {
        let run = with_fault(&server, fault, &CALL);
        assert!(run.stderr.contains("(INJECTED)"), "{fault}: {run}");
        assert_eq!(run.code(), 0, "{fault}: {run}");
        assert!(server.has(V4_BOUND), "{fault}");
        server.ok("unbind");
    }
    // A later try does not say that it found what an earlier one did.
    let lines = lab.log_of(2 * faults.len());
    let took_over: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains(" took_over="))
        .collect();
    assert_eq!(took_over.len(), faults.len(), "{lines:#?}");
    for ((fault, tries), line) in faults.iter().zip(took_over) {
        assert!(
            tries.is_none_or(|tries| line.contains(tries)),
            "{fault}: {line}"
        );
    }
}

#[test]
fn a_list_that_changed_while_it_was_read_is_read_again() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    // The header of a list's first message (76 bytes, RTM_NEWADDR) with NLM_F_MULTI and
    // NLM_F_DUMP_INTR, put over each answer in turn; over another one it makes no sense.
    let mut lists = Vec::new();
    for nth in 1..=6 {
        server.ok("bind -q");
        let run = with_fault(
            &server,
            &format!("recvfrom:poke_exit=@arg2=4c00000014001200:when={nth}"),
            &AWAY,
        );
        assert!(run.stderr.contains("(INJECTED"), "{nth}: {run}");
        lists.push(run.stderr.matches("RTM_GETADDR").count());
        assert_eq!(run.code(), 0, "{nth}: {run}");
        assert!(!server.has(V4_BOUND), "{nth}: {run}");
    }
    assert!(lists.iter().max() > lists.iter().min(), "{lists:?}");
}

#[test]
fn a_lost_reply_is_a_passing_fault() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    // The request, of 36 bytes, is swallowed: the kernel will never answer it. Where TO is and what only
    // prepares the take-over is asked again.
    for nth in [1, 2] {
        let fault = format!("sendto:retval=36:when={nth}");
        let run = with_fault(&server, &fault, &CALL);
        assert!(run.took >= Duration::from_secs(2), "{run}");
        run.success();
        assert!(server.has(V4_BOUND));
        lab.logged(&["took_over=", "tries=1"]);
        server.ok("unbind");
    }
}

/// Starts a run whose nth request to the kernel is late by a second, and returns it once the
/// VIP is bound, or not, as it was to make it.
fn delayed(host: &Host, nth: usize, arguments: &[&str], bound: bool) -> Child {
    let mut command = host.command("strace");
    let delay = format!("inject=sendto:delay_enter=1000000:when={nth}");
    command.args([
        "-f",
        "-b",
        "execve",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=sendto",
        "-e",
        &delay,
    ]);
    command.arg(executable()).args(arguments);
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    eventually("it has done its part", || host.has(V4_BOUND) == bound);
    child
}

#[test]
fn a_vip_that_somebody_removes_at_once_is_bound_again() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    // The seventh request is the one that verifies: two routes, link, address, two frames. On a busy
    // machine the VIP may be removed too late for it.
    let mut before = 0;
    eventually("a run finds the VIP removed", || {
        server.ok("unbind");
        // Each writes one line, which arrives when it likes.
        before = lab.log_of(before + 1).len();
        let mut run = delayed(&server, 7, &CALL, true);
        server.ip("addr del 192.168.56.250/32 dev eth1");
        let status = end_of(&mut run);
        assert!(status.success(), "{status:?}");
        let line = lab.log_of(before + 1).swap_remove(before);
        before += 1;
        assert!(
            line.contains("took_over=") && line.contains("exit=0"),
            "{line}"
        );
        let again = line.contains("tries=2");
        assert!(!again || server.has(V4_BOUND), "{line}");
        again
    });
}

#[test]
fn a_vip_that_somebody_adds_again_is_released_again() {
    let lab = guides_lab(ONLY_V4);
    let server = lab.host("server1");
    // Where TO is (a route, the list), the list again, link, list of dependents, delete: then it
    // verifies by the list. On a busy machine the VIP may be there again too late for that.
    let mut requests = (5..16).cycle();
    let mut before = 0;
    eventually("a run finds the VIP there again", || {
        server.ok("bind");
        // Each writes one line, which arrives when it likes.
        before = lab.log_of(before + 1).len();
        let nth = requests.next().unwrap();
        let mut run = delayed(&server, nth, &AWAY, false);
        server.ip("addr add 192.168.56.250/24 dev eth1");
        let status = end_of(&mut run);
        assert!(status.success(), "{status:?}");
        let line = lab.log_of(before + 1).swap_remove(before);
        before += 1;
        assert!(line.contains("released=192.168.56.250/24@eth1"), "{line}");
        let again = line.contains("tries=2");
        assert!(!again || !server.has(V4_BOUND), "{line}");
        again
    });
}
