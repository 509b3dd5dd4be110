//! What a run is asked to do.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::device::ServeOptions;
use crate::volume::FileSystem;

/// How the records of a run reach the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum WritePath {
    Auto,
    Journal,
    Direct,
    PageCache,
    /// One topic of each.
    Mixed,
    /// One topic that changes from one to another under load.
    Switch,
}

impl WritePath {
    pub const ALL_KINDS: [&'static str; 3] = ["journal", "direct", "page-cache"];

    /// The values of `write.path` of the topics to make, one topic each.
    pub fn topics(self) -> &'static [&'static str] {
        match self {
            WritePath::Auto | WritePath::Switch => &["auto"],
            WritePath::Journal => &["journal"],
            WritePath::Direct => &["direct"],
            WritePath::PageCache => &["page-cache"],
            WritePath::Mixed => &Self::ALL_KINDS,
        }
    }

    /// All records go to blocks that hold zeros already, past the page cache.
    pub fn is_preallocated(self) -> bool {
        matches!(self, WritePath::Journal | WritePath::Direct)
    }

    pub fn name(self) -> &'static str {
        match self {
            WritePath::Auto => "auto",
            WritePath::Mixed => "mixed",
            WritePath::Switch => "switch",
            WritePath::Journal | WritePath::Direct | WritePath::PageCache => self.topics()[0],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Durability {
    Fsync,
    Os,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Os => "os",
        }
    }
}

/// What runs between two cuts.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Partitions under load; every cut reads them all from the beginning
    #[arg(long, default_value_t = 24)]
    pub partitions: i32,
    /// Every other one is idempotent and sends again what a cut left unanswered
    #[arg(long, default_value_t = 4)]
    pub producers: usize,
    /// The cut comes at least so many milliseconds into the load
    #[arg(long = "load-ms-min", default_value_t = 150)]
    pub ms_min: u32,
    /// And before so many
    #[arg(long = "load-ms-max", default_value_t = 700)]
    pub ms_max: u32,
    /// Batches become small after so many KiB, so that a file system lasts for several cuts
    #[arg(long, default_value_t = 16 << 10)]
    pub kib_per_cut: u32,
}

#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// The broker's binary
    #[arg(long, default_value = "target/release/corelog")]
    pub broker: PathBuf,
    /// How often the power is cut, over all file systems and write paths in turn
    #[arg(long, default_value_t = 12)]
    pub cuts: u32,
    /// Repeats the choices of a run, as far as a real kernel allows; drawn and printed if not given
    #[arg(long)]
    pub seed: Option<u64>,
    #[arg(long = "fs", value_enum, value_delimiter = ',', default_value = "ext4,xfs")]
    pub file_systems: Vec<FileSystem>,
    /// write.path of the topics: mixed has a topic of each, switch changes it under load
    #[arg(long = "path", value_enum, value_delimiter = ',', default_value = "page-cache")]
    pub paths: Vec<WritePath>,
    /// durability of the topics
    #[arg(long, value_enum, default_value = "fsync")]
    pub durability: Durability,
    /// Succeed only if acknowledged records are lost: what a harness must find where nothing is flushed
    #[arg(long)]
    pub expect_loss: bool,
    #[command(flatten)]
    pub load: Load,
    /// The broker's --cores
    #[arg(long, default_value = "2")]
    pub cores: String,
    /// A setting of the broker, KEY=VALUE; may be repeated
    #[arg(long = "set")]
    pub settings: Vec<String>,
    /// Size of the file system; XFS wants 300 at least
    #[arg(long, default_value_t = 512)]
    pub image_mib: u64,
    /// A fresh file system after so many cuts, or when half of it is used
    #[arg(long, default_value_t = 6)]
    pub cuts_per_image: u32,
    /// Options to mount with, as for `mount -o`, such as data=writeback for ext4
    #[arg(long, default_value = "")]
    pub mount_options: String,
    /// Where images and logs lie while they are needed; what failed stays there [default: the directory for temporary files]
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Faults of the disk that some rounds bring before their cut.
#[derive(Clone, Debug, Default, Args)]
pub struct Faults {
    /// Rounds more in which all writes fail from some moment on: the broker must end and say so
    #[arg(long, default_value_t = 0)]
    pub eio_writes: u32,
    /// Rounds more in which flushes fail
    #[arg(long, default_value_t = 0)]
    pub eio_flushes: u32,
    /// Rounds more in which the disk stands still for a while: nothing may be acknowledged meanwhile
    #[arg(long, default_value_t = 0)]
    pub stalls: u32,
    /// What a cut leaves whole or not at all [default: 512 with ext4, 4096 with XFS, whose metadata needs it]
    #[arg(long)]
    pub sector_bytes: Option<usize>,
    /// The disk does no flush and says that it did, but keeps the order of its writes, so that file systems survive: what
    /// --expect-loss must find with every write path
    #[arg(long)]
    pub lying_disk: bool,
}

/// The harnesses.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Harness {
    /// Cuts by shutting the file system down under the load (FS_IOC_GOINGDOWN, without a flush of its log)
    Godown(RunOptions),
    /// Cuts by taking the volatile cache of a disk of our own: sectors are lost, torn and reordered
    Device {
        #[command(flatten)]
        run: RunOptions,
        #[command(flatten)]
        faults: Faults,
    },
    /// The process behind that disk; `device` starts it
    #[command(hide = true)]
    ServeDevice(ServeOptions),
}
