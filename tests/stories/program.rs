//! The real program: an issuer of its own on free ports, and commands against it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::patience::Patience;

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("chancery-program-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `chancery serve --dev` in a folder of its own.
pub(crate) struct Issuer {
    folder: Scratch,
    pub(crate) url: String,
    /// What it said before it was ready.
    said: Vec<String>,
    /// Ended with the test.
    serving: Running,
    _patience: Patience,
}

impl Issuer {
    pub(crate) fn start() -> Self {
        Self::start_in(Scratch::new(), "127.0.0.1:0")
    }

    /// On what is in the folder, if anything is.
    pub(crate) fn start_in(folder: Scratch, api: &str) -> Self {
        Self::serve(folder, api, chancery())
    }

    /// Says all that there is to say, of every crate.
    pub(crate) fn start_talkative() -> Self {
        let mut serve = chancery();
        serve.env("RUST_LOG", "trace");
        Self::serve(Scratch::new(), "127.0.0.1:0", serve)
    }

    fn serve(folder: Scratch, api: &str, mut serve: Command) -> Self {
        serve.args(["serve", "--dev", "--keep", "--api", api, "--status", "127.0.0.1:0"]).current_dir(folder.path());
        let mut serving = Running::start(&mut serve);
        let api = serving.say_until(|line| line.trim_start().starts_with("api "));
        let url = api.split_whitespace().nth(1).unwrap().to_owned();
        serving.say_until(|line| line.starts_with("ready"));
        Self { folder, url, said: serving.heard.clone(), serving, _patience: Patience::new() }
    }

    /// Where it listens: `api` or `status`.
    pub(crate) fn address(&self, of: &str) -> SocketAddr {
        let words = self.said.iter().flat_map(|line| line.split_whitespace());
        let url = words.skip_while(|word| *word != of).find_map(|word| word.split_once("://"));
        url.unwrap().1.parse().unwrap()
    }

    /// What it has in memory, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.serving.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Ends it; all that it said, and its folder.
    pub(crate) fn stop(self) -> (String, Scratch) {
        let Self { folder, serving, .. } = self;
        serving.send(Signal::TERM);
        let (_, out, err) = serving.ended();
        (out + &err, folder)
    }

    /// Kills it, so that nothing of it runs on; the folder stays.
    pub(crate) fn kill(self) -> Scratch {
        let Self { folder, serving, .. } = self;
        drop(serving);
        folder
    }

    /// The folder it was started in.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A command as the local administrator.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = chancery();
        command.args(words).current_dir(self.folder.path());
        command
    }

    /// The same, done; its standard output.
    pub(crate) fn done(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "chancery {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// An agent with this scope, if it is not there yet, and a join string for it.
    pub(crate) fn join(&self, agent: &str) -> String {
        let scope = "tools/call:crm/get_customer";
        self.done(&["agents", "create", agent, "--owner", "team-finance", "--scope", scope]);
        self.join_string("--agent", agent)
    }

    /// A join string for a record that is there.
    pub(crate) fn join_string(&self, kind: &str, name: &str) -> String {
        let token = self.done(&["join-tokens", "create", kind, name, "--json"]);
        let token: serde_json::Value = serde_json::from_str(&token).unwrap();
        token["join"].as_str().unwrap().to_owned()
    }

    /// What a list command lists.
    pub(crate) fn list(&self, words: &[&str]) -> Vec<serde_json::Value> {
        let page: serde_json::Value = serde_json::from_str(&self.done(&[words, &["--json"]].concat())).unwrap();
        page["data"].as_array().unwrap().clone()
    }
}

/// The program, with nothing of the tester's environment in it.
pub(crate) fn chancery() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHANCERY_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// `chancery run` of this shell script, with its state in this folder.
pub(crate) fn run(state: &Path, script: &str) -> Command {
    run_with(state, &[] as &[&str], script)
}

/// The same with options.
pub(crate) fn run_with(state: &Path, options: &[impl AsRef<OsStr>], script: &str) -> Command {
    let mut command = chancery();
    command.arg("run").args(options).args(["--", "sh", "-c", script]).env("CHANCERY_STATE_DIR", state);
    command
}

/// A program that runs, and what it says on standard error.
pub(crate) struct Running {
    child: Child,
    said: Receiver<String>,
    heard: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, said) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, said, heard: Vec::new() }
    }

    /// Reads on until a line is the one.
    pub(crate) fn say_until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.said.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("it was never said, after: {:#?}", self.heard));
            self.heard.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: exit code, standard output, standard error.
    pub(crate) fn ended(mut self) -> (Option<i32>, String, String) {
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let status = self.child.wait().unwrap();
        let rest: Vec<String> = self.said.iter().collect();
        let err = self.heard.iter().chain(&rest).map(|line| format!("{line}\n")).collect();
        (status.code(), out, err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs to the end: exit code, standard output, standard error.
pub(crate) fn finish(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
