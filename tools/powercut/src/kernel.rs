//! What only an ioctl or a child before its exec can ask of the kernel: all `unsafe` of this tool.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

// Source of the loop numbers and layouts: Linux, include/uapi/linux/loop.h.
const LOOP_SET_STATUS64_BYTES: usize = 232;
const LOOP_CLR_FD: libc::c_ulong = 0x4c01;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
/// The device lets go of its file when the last one who has it open closes it, however that one ends.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `FS_IOC_GOINGDOWN` of XFS, which ext4 took over; source: Linux, fs/xfs/libxfs/xfs_fs.h and fs/ext4/ext4.h.
const GOING_DOWN: libc::c_ulong = 0x8004_587d;
/// What the log of the file system has in memory only is lost, too.
const GOING_FLAGS_NOLOGFLUSH: u32 = 2;

#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_bytes: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == LOOP_SET_STATUS64_BYTES);
const _: () = assert!(size_of::<LoopConfig>() == LOOP_SET_STATUS64_BYTES + 72);

/// A file as a block device, for as long as this value lives and somebody has the device mounted.
pub struct LoopDevice {
    path: PathBuf,
    device: File,
}

/// Others on the machine look for free devices as well: so many tries to be first.
const ATTACH_TRIES: usize = 50;

impl LoopDevice {
    /// Errors: no loop driver, no right to use it, or no free device.
    pub fn attach(file: &File) -> io::Result<LoopDevice> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..ATTACH_TRIES {
            // SAFETY: LOOP_CTL_GET_FREE takes no argument; `control` is open.
            let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new().read(true).write(true).open(&path)?;
            match configure(&device, file.as_raw_fd()) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                result => return result.map(|()| LoopDevice { path, device }),
            }
        }
        Err(io::Error::other(format!("no free loop device in {ATTACH_TRIES} tries")))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // A device that is still mounted goes with its mount: it was attached to clear itself.
        // SAFETY: LOOP_CLR_FD takes no argument; `device` is open.
        unsafe { libc::ioctl(self.device.as_raw_fd(), LOOP_CLR_FD) };
    }
}

fn configure(device: &File, file: RawFd) -> io::Result<()> {
    let config = LoopConfig {
        file: u32::try_from(file).expect("an open file has a number"),
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_bytes: 0,
            flags: LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout is asserted above; it outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) })?;
    Ok(())
}

/// Shuts a mounted file system down as a power cut would: what is not on the device by now never gets there.
/// `directory` is any of the file system.
pub fn shut_down(directory: &File) -> io::Result<()> {
    let flags = GOING_FLAGS_NOLOGFLUSH;
    // SAFETY: the ioctl reads one u32, which outlives the call; `directory` is open.
    check(unsafe { libc::ioctl(directory.as_raw_fd(), GOING_DOWN, &raw const flags) })?;
    Ok(())
}

/// The command's process gets SIGKILL when the thread that starts it ends, however it ends; and it is its own process
/// group, so that a Ctrl-C reaches the supervisor alone, which ends the others in order.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    command.process_group(0);
    // SAFETY: between fork and exec the closure makes one system call, prctl, and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)).map(|_| ()));
    }
    command
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
