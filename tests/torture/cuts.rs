//! Power cuts: the data directory is on an ext4 file system in an image, which is shut down at a
//! random moment without its journal being flushed. What the router had not synced is gone.
//!
//! `EXT4_IOC_SHUTDOWN` with `NOLOGFLUSH` is what the file system's own crash tests use: from that
//! moment on nothing reaches the image any more, in the middle of whatever was under way.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::injections;
use super::world::{Process, Replay, Tally, World, faults, pass, setting};

/// Intake stops with less than 64 MiB free: room enough for the orders of all rounds.
const IMAGE_MIB: u64 = 256;
const KILL: i32 = 9;

/// `ioctl(directory, EXT4_IOC_SHUTDOWN, NOLOGFLUSH)`, in the languages that may be there.
const SHUTDOWN: [(&str, &str); 2] = [
    (
        "python3",
        "import fcntl,os,struct,sys; fd=os.open(sys.argv[1],os.O_RDONLY); \
         fcntl.ioctl(fd,0x8004587d,struct.pack('I',2))",
    ),
    (
        "perl",
        "open(F,'<',$ARGV[0]) or opendir(F,$ARGV[0]) or die; \
         ioctl(F,0x8004587d,pack('L',2)) or die",
    ),
];

/// Runs a tool to its end; its words where it fails or is not there.
pub fn tool(program: &str, words: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A mounted file system; unmounted and detached when it is dropped, also by a panic.
pub struct Mounted {
    pub at: PathBuf,
    image: PathBuf,
    device: Option<String>,
}

impl Mounted {
    /// Makes a file system in an image below a directory. `Err`: this machine cannot.
    pub fn ext4(dir: &Path) -> Result<Self, String> {
        let image = dir.join("disk.img");
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(IMAGE_MIB << 20).map_err(|e| e.to_string())?;
        tool("mkfs.ext4", &["-q", "-m", "0", &image.display().to_string()])?;
        let at = dir.join("disk");
        std::fs::create_dir(&at).map_err(|e| e.to_string())?;
        let mut mounted = Self { at, image, device: None };
        mounted.mount()?;
        Ok(mounted)
    }

    fn mount(&mut self) -> Result<(), String> {
        let image = self.image.display().to_string();
        // Without the host's page cache between, where the host's file system can.
        let direct = tool("losetup", &["-f", "--show", "--direct-io=on", &image]);
        let device = direct.or_else(|_| tool("losetup", &["-f", "--show", &image]))?;
        self.device = Some(device.clone());
        tool("mount", &["-t", "ext4", &device, &self.at.display().to_string()]).map(drop)
    }

    fn unmount(&mut self) -> Result<(), String> {
        let unmounted = tool("umount", &[&self.at.display().to_string()]);
        if let Some(device) = self.device.take() {
            tool("losetup", &["-d", &device])?;
        }
        unmounted.map(drop)
    }

    /// The power goes.
    pub fn cut(&self) -> Result<(), String> {
        let at = self.at.display().to_string();
        let [python, perl] = SHUTDOWN.map(|(program, text)| {
            move |at: &str| tool(program, &[if program == "perl" { "-e" } else { "-c" }, text, at])
        });
        python(&at).or_else(|_| perl(&at)).map(drop)
    }

    /// The power is back: the file system replays its journal.
    pub fn restore(&mut self) {
        self.unmount().expect("what was mounted can be unmounted");
        self.mount().expect("ext4 survives a power cut");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.device.is_some()
            && let Err(error) = self.unmount()
        {
            eprintln!("left behind: {error}");
        }
    }
}

/// Cuts, each in the middle of a run. `Err`: this machine cannot.
fn cuts(seed: u64, rounds: u64, tally: &mut Tally) -> Result<(), String> {
    let mut world = World::new(seed, faults());
    let mut disk = Mounted::ext4(&world.path(""))?;
    world.data = disk.at.join("data");
    // A file that nobody synced is gone: else this machine cuts nothing.
    std::fs::write(disk.at.join("unsynced"), "x").expect("there is room");
    disk.cut()?;
    disk.restore();
    assert!(!disk.at.join("unsynced").exists(), "the cut did not cut");
    let failing = injections::available().is_ok();
    for number in 0..rounds {
        tally.rounds += 1;
        // A sync that fails leaves bytes in the page cache that the disk does not have. The next
        // process sees them, and must not build on them: the cut takes them away.
        if failing && number % 4 == 3 {
            let when = world.dice.u64(1..=8);
            let (name, fired) = injections::run_failing(&mut world, 0, when, false);
            if fired > 0 { tally.fire(&name) } else { tally.miss(&name) }
        }
        let batch = world.batch(20, 5);
        let mut child = Process::start(&mut world.submit(&batch));
        pass(Duration::from_millis(world.dice.u64(5..600)));
        // Power takes the process with it: nobody is told anything after the cut. (What is in the
        // middle of a system call ends there, on a file system that is gone.)
        kill_process(child.pid(), Signal::STOP).expect("a child can be stopped");
        disk.cut()?;
        child.kill();
        let status = child.wait();
        world.ended_well(status, Some(KILL), &[0, 2, 3]);
        disk.restore();
        tally.fire("power cut");
        world.compare();
    }
    world.end();
    tally.orders += world.orders();
    Ok(())
}

#[test]
fn a_data_directory_survives_power_cuts() {
    let begun = Instant::now();
    let mut tally = Tally::default();
    match cuts(1, 4, &mut tally) {
        Ok(()) => tally.print("cuts, short", begun),
        Err(why) => println!("SKIPPED: no power cuts on this machine: {why}"),
    }
}

#[test]
#[ignore = "long: just torture cuts"]
fn cuts_long() {
    let (seed, rounds) = (setting("TORTURE_SEED", 1), setting("TORTURE_ROUNDS", 200));
    let _replay = Replay { part: "cuts", seed, rounds };
    let begun = Instant::now();
    let mut tally = Tally::default();
    match cuts(seed, rounds, &mut tally) {
        Ok(()) => tally.print("cuts", begun),
        Err(why) => println!("SKIPPED: no power cuts on this machine: {why}"),
    }
}
