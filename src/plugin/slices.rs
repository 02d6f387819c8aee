//! How long a thread may keep its core from one that is ready.

use std::io;

/// From here on this thread, and whatever thread or process it starts, takes the shortest slices that the system gives: 0.1 ms on Linux
/// since 6.12 (before it the wish is not heeded), where a slice is a millisecond or more and ends only at a tick of up to 4 ms. Who
/// is woken then waits less behind a thread that computes. The share of the processor stays what it was.
///
/// # Errors
/// When the system refuses, as a container's filter of system calls may.
#[cfg(target_os = "linux")]
pub fn take_short_slices() -> io::Result<()> {
    let mut attributes = linux::get()?;
    // A thread that somebody has put into another class, as with chrt(1), stays in it.
    if attributes.sched_policy == libc::SCHED_OTHER as u32 {
        attributes.sched_runtime = linux::SLICE_NS;
        linux::set(&attributes)?;
    }
    Ok(())
}

/// Elsewhere there is no such wish.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn take_short_slices() -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    /// The least that the system takes.
    pub(super) const SLICE_NS: u64 = 100_000;
    const THIS_THREAD: libc::pid_t = 0;
    const NO_FLAGS: libc::c_uint = 0;

    const fn none() -> libc::sched_attr {
        libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: 0,
            sched_flags: 0,
            sched_nice: 0,
            sched_priority: 0,
            sched_runtime: 0,
            sched_deadline: 0,
            sched_period: 0,
        }
    }

    /// sched_getattr(2) of this thread.
    #[allow(unsafe_code, reason = "no library has this call")]
    pub(super) fn get() -> io::Result<libc::sched_attr> {
        let mut attributes = none();
        // SAFETY: the system writes at most `size` bytes into `attributes`, which is as large and lives until the call is over;
        // each of its bit patterns is a value of its integers.
        let answer = unsafe {
            libc::syscall(libc::SYS_sched_getattr, THIS_THREAD, &raw mut attributes, attributes.size, NO_FLAGS)
        };
        if answer == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
    }

    /// sched_setattr(2) of this thread.
    #[allow(unsafe_code, reason = "no library has this call")]
    pub(super) fn set(attributes: &libc::sched_attr) -> io::Result<()> {
        // SAFETY: the system reads `size` bytes of `attributes`, which is as large and lives until the call is over.
        let answer =
            unsafe { libc::syscall(libc::SYS_sched_setattr, THIS_THREAD, std::ptr::from_ref(attributes), NO_FLAGS) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Since Linux 6.12 the system tells the slice back.
    fn is_told(slice_ns: u64) -> bool {
        slice_ns != 0
    }

    #[test]
    fn a_thread_and_those_that_it_starts_have_short_slices_and_others_keep_theirs() {
        let before = linux::get().unwrap();
        let [own, started] = std::thread::spawn(|| {
            take_short_slices().unwrap();
            [linux::get().unwrap(), std::thread::spawn(|| linux::get().unwrap()).join().unwrap()]
        })
        .join()
        .unwrap();
        assert_eq!(linux::get().unwrap().sched_runtime, before.sched_runtime);
        for attributes in [own, started] {
            assert_eq!((attributes.sched_policy, attributes.sched_nice), (before.sched_policy, before.sched_nice));
            if is_told(before.sched_runtime) {
                assert_eq!(attributes.sched_runtime, linux::SLICE_NS);
            }
        }
    }

    #[test]
    fn a_thread_of_another_class_stays_in_it() {
        std::thread::spawn(|| {
            let mut batch = linux::get().unwrap();
            batch.sched_policy = libc::SCHED_BATCH as u32;
            linux::set(&batch).unwrap();
            take_short_slices().unwrap();
            assert_eq!(linux::get().unwrap().sched_policy, libc::SCHED_BATCH as u32);
        })
        .join()
        .unwrap();
    }
}
