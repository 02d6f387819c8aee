#![no_main]

use std::ffi::{CString, c_char, c_int};

use portcullis_policy::{Host, parse_host};

#[path = "../checks/host.rs"]
mod checks;

unsafe extern "C" {
    fn inet_aton(text: *const c_char, address: *mut u32) -> c_int;
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::check(data);
    // The resolver of this system decides for itself what is an address, and it must not get one as a name.
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(Host::Name(name)) = parse_host(text)
        && let Ok(text) = CString::new(name.as_str())
    {
        let mut address = 0;
        // SAFETY: the text ends with a NUL, and an `in_addr` is one `u32`.
        assert_eq!(unsafe { inet_aton(text.as_ptr(), &mut address) }, 0, "{name} is an address");
    }
});
