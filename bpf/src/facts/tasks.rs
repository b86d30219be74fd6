//! Processes: names, cgroups and the containers that cgroup paths name.

use std::fs;

/// `comm` as the kernel gives it: bytes up to the first NUL, any of them.
pub(crate) fn comm(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// cgroup path and container id of a thread; empty when it is gone or in none.
pub(crate) fn cgroup(tid: u32) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{tid}/cgroup")).unwrap_or_default();
    let path = path_of(&text);
    let container = container(path).to_owned();
    (path.to_owned(), container)
}

/// The unified hierarchy's path; on hosts with cgroup v1, the longest of the others when that one
/// is the root.
fn path_of(text: &str) -> &str {
    let paths = || {
        text.lines().filter_map(|line| {
            let (id, rest) = line.split_once(':')?;
            Some((id, rest.split_once(':')?.1))
        })
    };
    let unified = paths().find(|&(id, _)| id == "0").map_or("", |(_, path)| path);
    if unified.len() > 1 {
        return unified;
    }
    paths().map(|(_, path)| path).max_by_key(|path| path.len()).unwrap_or("")
}

/// The container id in a cgroup path, empty when none: the 64 hexadecimal digits that Docker,
/// containerd, CRI-O and Podman use, or the name after `lxc/` or `machine-`.
fn container(path: &str) -> &str {
    for part in path.rsplit('/') {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        // `docker-ID`, `cri-containerd-ID`, `crio-ID`, `libpod-ID`.
        let id = part.rsplit('-').next().unwrap_or(part);
        // containerd: `POD:cri-containerd:ID`.
        let id = id.rsplit(':').next().unwrap_or(id);
        if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return id;
        }
        if let Some(name) =
            part.strip_prefix("machine-").or_else(|| part.strip_prefix("lxc.payload."))
        {
            return name;
        }
    }
    match path.split_once("/lxc/") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(""),
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f2c6d0e9a1b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d";

    #[test]
    fn container_ids_of_the_usual_engines() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods.slice/kubepods-burstable.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods/besteffort/pod1234/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
        ] {
            assert_eq!(container(&path), ID, "{path}");
        }
        assert_eq!(container("/lxc/web/init.scope"), "web");
        assert_eq!(container("/machine.slice/machine-db.scope"), "db");
        assert_eq!(container("/user.slice/user-1000.slice/session-3.scope"), "");
        assert_eq!(container("/"), "");
    }

    #[test]
    fn unified_path_first_and_the_longest_otherwise() {
        assert_eq!(path_of("1:cpu:/a\n0::/system.slice/x.service\n"), "/system.slice/x.service");
        assert_eq!(path_of("3:memory:/docker/abc\n1:cpu:/\n0::/\n"), "/docker/abc");
        assert_eq!(path_of(""), "");
    }

    #[test]
    fn comm_is_cut_at_nul_and_may_be_any_bytes() {
        assert_eq!(comm(b"nginx\0\0\0"), "nginx");
        assert_eq!(comm(b"sixteen-bytes-16"), "sixteen-bytes-16");
        assert_eq!(comm(&[0xff, 0]), "\u{fffd}");
    }
}
