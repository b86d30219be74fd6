//! Functions of the running kernel as its BTF describes them: whether an argument still is what psc's table
//! says, and what a return value is.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;

use libbpf_rs::libbpf_sys;

/// What a function returns, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    Void,
    Bool,
    DropReason,
    Pointer,
    Other,
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Its id in the BTF that has it, which is what fentry attaches to.
    pub(crate) id: u32,
    /// The module whose BTF that is; empty for the kernel proper.
    pub(crate) module: String,
    /// For each argument, the struct that it points to; empty for anything else.
    pub(crate) points_to: Vec<String>,
    pub(crate) returned: Returned,
}

/// One module's BTF, on top of the kernel's.
struct Module {
    name: String,
    btf: NonNull<libbpf_sys::btf>,
    fd: OwnedFd,
}

/// The BTF of the kernel and its modules.
pub(crate) struct Signatures {
    kernel: NonNull<libbpf_sys::btf>,
    modules: Vec<Module>,
}

impl Drop for Signatures {
    fn drop(&mut self) {
        for module in &self.modules {
            // SAFETY: loaded by us, freed once; before the kernel's, which it refers to.
            unsafe { libbpf_sys::btf__free(module.btf.as_ptr()) };
        }
        // SAFETY: as above.
        unsafe { libbpf_sys::btf__free(self.kernel.as_ptr()) };
    }
}

/// The low five bits of the kind in `btf_type.info` (include/uapi/linux/btf.h).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const TYPE_TAG: u32 = 18;
}

/// libbpf's errors are small negative pointers or null.
fn checked<T>(pointer: *mut T) -> Option<NonNull<T>> {
    let address = pointer as isize;
    if (-4095..=0).contains(&address) { None } else { NonNull::new(pointer) }
}

impl Signatures {
    /// Reads the BTF of the kernel and of the modules that `wanted` names.
    pub(crate) fn read(wanted: &dyn Fn(&str) -> bool) -> Option<Self> {
        // SAFETY: no preconditions.
        let kernel = checked(unsafe { libbpf_sys::btf__load_vmlinux_btf() })?;
        let mut signatures = Self { kernel, modules: Vec::new() };
        let mut id = 0;
        // SAFETY: writes one number.
        while unsafe { libbpf_sys::bpf_btf_get_next_id(id, &raw mut id) } == 0 {
            signatures.take_module(id, wanted);
        }
        Some(signatures)
    }

    fn take_module(&mut self, id: u32, wanted: &dyn Fn(&str) -> bool) {
        // SAFETY: no preconditions; a new descriptor or negative.
        let fd = unsafe { libbpf_sys::bpf_btf_get_fd_by_id(id) };
        if fd < 0 {
            return;
        }
        // SAFETY: just opened and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut name = [0_u8; 64];
        let mut info = libbpf_sys::bpf_btf_info {
            name: name.as_mut_ptr() as u64,
            name_len: name.len() as u32,
            ..libbpf_sys::bpf_btf_info::default()
        };
        let mut len = size_of_val(&info) as u32;
        // SAFETY: info, its size and the name's buffer belong together.
        let rc = unsafe {
            libbpf_sys::bpf_obj_get_info_by_fd(
                std::os::fd::AsRawFd::as_raw_fd(&fd),
                std::ptr::from_mut(&mut info).cast(),
                &raw mut len,
            )
        };
        let name = CStr::from_bytes_until_nul(&name).ok().and_then(|name| name.to_str().ok());
        let Some(name) = name.filter(|name| rc == 0 && info.kernel_btf == 1 && wanted(name)) else {
            return;
        };
        // SAFETY: the kernel's BTF lives as long as this.
        let btf =
            unsafe { libbpf_sys::btf__load_from_kernel_by_id_split(id, self.kernel.as_ptr()) };
        if let Some(btf) = checked(btf) {
            self.modules.push(Module { name: name.to_owned(), btf, fd });
        }
    }

    /// The descriptor of a module's BTF.
    pub(crate) fn module_fd(&self, module: &str) -> Option<BorrowedFd<'_>> {
        self.modules.iter().find(|m| m.name == module).map(|m| m.fd.as_fd())
    }

    /// The function of this name in the kernel proper (`module` empty) or a module.
    pub(crate) fn find(&self, name: &str, module: &str) -> Option<Signature> {
        let btf = match module {
            "" => self.kernel,
            _ => self.modules.iter().find(|m| m.name == module)?.btf,
        };
        let c_name = CString::new(name).ok()?;
        // SAFETY: a BTF that lives, and a string.
        let id = unsafe {
            libbpf_sys::btf__find_by_name_kind(btf.as_ptr(), c_name.as_ptr(), kind::FUNC)
        };
        let id = u32::try_from(id).ok()?;
        let types = Types(btf);
        let (_, proto) = types.get(id)?;
        let (info, returned) = types.get(proto)?;
        if info >> 24 & 31 != kind::FUNC_PROTO {
            return None;
        }
        let arguments = info & 0xffff;
        let points_to = (0..arguments).map(|n| types.pointee(types.parameter(proto, n)));
        Some(Signature {
            id,
            module: module.to_owned(),
            points_to: points_to.collect(),
            returned: types.returned(returned),
        })
    }
}

/// Types of one BTF by id.
#[derive(Clone, Copy)]
struct Types(NonNull<libbpf_sys::btf>);

impl Types {
    fn raw(self, id: u32) -> Option<*const libbpf_sys::btf_type> {
        // SAFETY: the BTF lives; an id out of range gives null.
        let ty = unsafe { libbpf_sys::btf__type_by_id(self.0.as_ptr(), id) };
        (!ty.is_null()).then_some(ty)
    }

    /// `info` and the type referred to (or the size).
    fn get(self, id: u32) -> Option<(u32, u32)> {
        let ty = self.raw(id)?;
        // SAFETY: libbpf's own, checked when the BTF was loaded.
        unsafe { Some(((*ty).info, (*ty).__bindgen_anon_1.type_)) }
    }

    fn name(self, id: u32) -> String {
        let Some(ty) = self.raw(id) else { return String::new() };
        // SAFETY: an offset of this BTF's own string table gives a string, else null.
        unsafe {
            let name = libbpf_sys::btf__name_by_offset(self.0.as_ptr(), (*ty).name_off);
            if name.is_null() {
                return String::new();
            }
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }

    /// The type of a prototype's argument; the caller has checked that there is one.
    fn parameter(self, proto: u32, number: u32) -> u32 {
        let Some(ty) = self.raw(proto) else { return 0 };
        // SAFETY: parameters follow the prototype, as many as its `info` says.
        unsafe { (*ty.add(1).cast::<libbpf_sys::btf_param>().add(number as usize)).type_ }
    }

    /// Without typedefs and qualifiers.
    fn plain(self, mut id: u32) -> (u32, u32, u32) {
        loop {
            let Some((info, next)) = self.get(id) else { return (id, 0, 0) };
            let of = info >> 24 & 31;
            match of {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = next;
                }
                _ => return (id, of, next),
            }
        }
    }

    fn pointee(self, id: u32) -> String {
        let (_, of, next) = self.plain(id);
        if of != kind::PTR {
            return String::new();
        }
        let (target, of, _) = self.plain(next);
        if of == kind::STRUCT { self.name(target) } else { String::new() }
    }

    fn returned(self, id: u32) -> Returned {
        if id == 0 {
            return Returned::Void;
        }
        let (plain, of, _) = self.plain(id);
        match of {
            kind::PTR => Returned::Pointer,
            kind::ENUM if self.name(plain) == "skb_drop_reason" => Returned::DropReason,
            kind::INT if self.name(plain) == "_Bool" => Returned::Bool,
            _ => Returned::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any kernel that psc runs on has these, and they have been the same since 6.1.
    #[test]
    fn the_running_kernels_functions_are_as_declared() {
        let Some(signatures) = Signatures::read(&|_| false) else { return };
        let Some(rcv) = signatures.find("tcp_v4_rcv", "") else { return };
        assert_eq!((rcv.points_to, rcv.returned), (vec!["sk_buff".to_owned()], Returned::Other));
        let clone = signatures.find("skb_clone", "").expect("exported since ever");
        assert_eq!(clone.points_to, ["sk_buff", ""]);
        assert_eq!(clone.returned, Returned::Pointer);
        assert_eq!(signatures.find("no_such_function", ""), None);
    }
}
