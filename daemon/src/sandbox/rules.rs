//! The Landlock rules: root and spool stay accessible, and the files that are read besides them. A rule covers a
//! directory with everything below it, mounts too, and outlives its renaming.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictSelf, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, make_bitflags, path_beneath_rules,
};

use crate::config::{Settings, SinkChoice};

/// The newest rights that this daemon was tested with (Linux 6.12). A newer kernel grants these; an older one the
/// part that it knows.
const TRIED: ABI = ABI::V6;

/// The feature that each ABI brought, and its Linux version.
const FEATURES: [(i32, &str, &str); 6] = [
    (1, "files", "5.13"),
    (2, "renames between directories", "5.19"),
    (3, "truncation", "6.2"),
    (4, "binding", "6.7"),
    (5, "ioctl of devices", "6.10"),
    (6, "abstract sockets and signals", "6.12"),
];

/// The ABI from which renames between directories can be allowed; before it they are refused.
const ABI_OF_RENAMES: i32 = 2;

const NOT_THERE: &str = "not there: the kernel is older than Linux 5.13 or built without it, or a seccomp profile \
                         refuses landlock_create_ruleset(2)";
const SWITCHED_OFF: &str = "switched off: add landlock to lsm= of the kernel's command line";

/// The right to read everything beneath. Nothing is ever executed.
const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// The rights of uploads and stored frames: regular files and directories are made, renamed and removed.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});

/// The rights of Unix sockets in their directory: to be made at the start and removed at the end, with a lock on the
/// directory meanwhile.
const SOCKETS: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});

/// Restricts the thread to the files that these settings need. The error says what to do about it.
pub(super) fn restrict(settings: &Settings, config_file: &Path) -> Result<(), String> {
    let abi = kernel()?;
    if settings.takes_uploads() && abi < ABI_OF_RENAMES {
        return Err(format!(
            "ABI {abi} refuses renames between directories, by which uploads get their names: Linux 5.19 or newer is \
             needed"
        ));
    }
    enforce(settings, config_file).map_err(|error| error.to_string())
}

/// Keeps the thread from binding another TCP port or Unix socket, where the kernel can. Connecting stays: streams do.
pub(super) fn deny_binding() -> Result<(), String> {
    let deny = || {
        Ruleset::default()
            .handle_access(AccessNet::BindTcp)?
            // Rules refuse renames between directories even where they cover the network alone (seen on 6.18).
            .handle_access(AccessFs::Refer | AccessFs::MakeSock)?
            .create()?
            .add_rules(path_beneath_rules(["/"], AccessFs::Refer))?
            .restrict_self()
    };
    deny().map(|_| ()).map_err(|error: RulesetError| format!("Landlock: {error}"))
}

/// Describes the kernel's Landlock.
pub(super) fn kernel_text() -> String {
    let abi = match kernel() {
        Ok(abi) => abi,
        Err(reason) => return reason,
    };
    let known = |is_known: bool| FEATURES.iter().filter(move |(since, ..)| (*since <= abi) == is_known);
    let names: Vec<&str> = known(true).map(|(_, name, _)| *name).collect();
    let lacking: String =
        known(false).map(|(_, name, linux)| format!("; {name} from Linux {linux} on")).collect();
    format!("ABI {abi}: {}{lacking}", names.join(", "))
}

/// Returns the kernel's ABI.
fn kernel() -> Result<i32, String> {
    // Without a flag to set this only asks, and changes nothing.
    let asked = RestrictSelf::default().no_new_privs(false).apply().map_err(|error| error.to_string())?;
    match asked.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            Ok(kernel_abi.unwrap_or(effective_abi as i32))
        }
        LandlockStatus::NotEnabled => Err(SWITCHED_OFF.to_owned()),
        LandlockStatus::NotImplemented => Err(NOT_THERE.to_owned()),
    }
}

fn enforce(settings: &Settings, config_file: &Path) -> Result<(), RulesetError> {
    let mut scopes = Scope::from_all(TRIED);
    if std::env::var_os("NOTIFY_SOCKET").is_some_and(|name| name.as_encoded_bytes().starts_with(b"@")) {
        scopes.remove(Scope::AbstractUnixSocket);
    }
    let access = |is_written: bool| if is_written { READ | WRITE } else { READ };
    let spool_access = access(settings.sink == SinkChoice::Store);
    Ruleset::default()
        .handle_access(AccessFs::from_all(TRIED))?
        .scope(scopes)?
        .create()?
        .add_rules(path_beneath_rules(roots(settings, true), access(true)))?
        .add_rules(path_beneath_rules(roots(settings, false), access(false)))?
        .add_rules(path_beneath_rules(shown_besides(settings), READ))?
        .add_rules(path_beneath_rules(&settings.spool, spool_access))?
        .add_rules(path_beneath_rules(directories_of_sockets(settings), SOCKETS))?
        .add_rules(path_beneath_rules(read_on_reload(settings, config_file), READ))?
        .add_rules(path_beneath_rules(read_of_host(settings), READ))?
        .restrict_self()?;
    Ok(())
}

/// Returns the roots of the shares that take uploads, or of those that don't. Rights add up where one lies in another.
fn roots(settings: &Settings, takes_uploads: bool) -> Vec<PathBuf> {
    let own = settings.root.iter().map(|root| (root, settings.uploads));
    let of_shares = settings.share.iter().filter_map(|share| Some((share.root.as_ref()?, share.uploads)));
    own.chain(of_shares)
        .filter(|(_, uploads)| *uploads == takes_uploads)
        .map(|(root, _)| root.clone())
        .collect()
}

/// Returns the directories of the Unix sockets that are listened on.
fn directories_of_sockets(settings: &Settings) -> Vec<PathBuf> {
    let paths =
        settings.listeners().into_iter().filter_map(|listen| listen.address?.path().map(Path::to_owned));
    paths.filter_map(|path| path.parent().map(Path::to_owned)).collect()
}

/// Returns the directories that links and shares of later reloads may lead to.
fn shown_besides(settings: &Settings) -> Vec<PathBuf> {
    let of_shares = settings.share.iter().flat_map(|share| &share.symlink_targets);
    settings
        .roots_allowed
        .iter()
        .chain(&settings.symlink_targets)
        .chain(of_shares)
        .map(PathBuf::from)
        .collect()
}

/// Returns the directories that hold the configuration and the token: files are replaced by a rename, and a rule
/// for the file itself would stay with the old one.
fn read_on_reload(settings: &Settings, config_file: &Path) -> Vec<PathBuf> {
    let files = [Some(config_file), settings.token_file.as_deref()].into_iter().flatten();
    let links_and_files = files.flat_map(|file| [Some(file.to_owned()), file.canonicalize().ok()]);
    links_and_files.flatten().map(|file| holder(&file).unwrap_or(file)).collect()
}

/// Returns the directory that holds a file; None where that would expose everything.
fn holder(file: &Path) -> Option<PathBuf> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    directory.canonicalize().ok().filter(|directory| directory.parent().is_some())
}

/// Returns the files of the host that are read: for its boot and its cores, and for names of stream targets by the
/// C library. Rules for single files of /proc would be lost whenever its dentries are; of other processes Landlock
/// leaves only what ptrace(2) doesn't guard.
fn read_of_host(settings: &Settings) -> Vec<PathBuf> {
    const HOST: [&str; 3] = ["/proc", "/sys/devices/system/cpu", "/sys/fs/cgroup"];
    const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];
    /// These files are enough for `localhost`.
    const NAMES: [&str; 4] = ["/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];
    /// Name servers change while the daemon runs, by a rename in these directories.
    const NAMES_OF_OTHERS: [&str; 4] =
        ["/etc", "/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf"];
    let names = if settings.targets_allowed.is_empty() { NAMES } else { NAMES_OF_OTHERS };
    [&HOST[..], &LIBRARIES, &names, &["/etc/resolv.conf"]].concat().into_iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{self, ErrorKind};
    use std::net::TcpListener;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::thread;

    use super::{deny_binding, kernel, restrict};
    use crate::config::Settings;

    /// Runs `test` on a thread that has given up all but what `settings` need, and on one that this one starts.
    fn restricted(settings: &Settings, config_file: &Path, test: impl Fn() + Sync) {
        if let Err(reason) = kernel() {
            println!("skipped: Landlock is {reason}");
            return;
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                restrict(settings, config_file).unwrap();
                test();
                deny_binding().unwrap();
                thread::scope(|scope| scope.spawn(&test).join().unwrap());
            });
        });
    }

    fn is_denied<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn nothing_but_root_and_configuration_can_be_read_and_nothing_written() {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        for name in ["root", "root/sub", "configuration", "elsewhere"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), "content").unwrap();
        }
        let settings = Settings { root: Some(at("root")), ..Settings::default() };
        restricted(&settings, &at("configuration/streamd.toml"), || {
            for readable in ["root", "root/sub", "configuration"] {
                assert!(fs::read(at(readable).join("file")).is_ok(), "{readable}");
                assert!(fs::read_dir(at(readable)).is_ok(), "{readable}");
                assert!(is_denied(fs::write(at(readable).join("file"), "")), "{readable}");
                assert!(is_denied(fs::write(at(readable).join("new"), "")), "{readable}");
                assert!(is_denied(fs::remove_file(at(readable).join("file"))), "{readable}");
            }
            for hidden in ["elsewhere", "root/../elsewhere"] {
                assert!(is_denied(fs::read(at(hidden).join("file"))), "{hidden}");
                assert!(is_denied(fs::read_dir(at(hidden))), "{hidden}");
            }
            assert!(is_denied(fs::read("/etc/passwd")));
            assert!(is_denied(std::process::Command::new("/bin/true").status()));
            assert!(fs::read_to_string("/proc/sys/kernel/random/boot_id").is_ok());
        });
    }

    #[test]
    fn uploads_may_write_below_the_root_and_rename_between_its_directories() {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        fs::create_dir(at("root")).unwrap();
        let settings = Settings { root: Some(at("root")), uploads: true, ..Settings::default() };
        restricted(&settings, Path::new("/nonexistent/streamd.toml"), || {
            fs::create_dir(at("root/made")).unwrap();
            fs::write(at("root/partial"), "content").unwrap();
            fs::rename(at("root/partial"), at("root/made/file")).unwrap();
            assert!(fs::rename(at("root/made/file"), at("file")).is_err());
            fs::remove_file(at("root/made/file")).unwrap();
            fs::remove_dir(at("root/made")).unwrap();
            assert!(std::os::unix::fs::symlink("/", at("root/link")).is_err());
            assert!(is_denied(fs::write(at("file"), "")));
        });
    }

    #[test]
    fn a_unix_socket_can_be_bound_before_in_its_directory_alone_and_removed_after() {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        for name in ["run", "elsewhere"] {
            fs::create_dir(at(name)).unwrap();
        }
        let address = format!("unix:{}", at("run/data.sock").display()).parse().unwrap();
        let settings = Settings { control_listen: address, ..Settings::default() };
        if let Err(reason) = kernel() {
            println!("skipped: Landlock is {reason}");
            return;
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                restrict(&settings, Path::new("/nonexistent/streamd.toml")).unwrap();
                let _listener = UnixListener::bind(at("run/data.sock")).unwrap();
                assert!(is_denied(UnixListener::bind(at("elsewhere/data.sock"))));
                assert!(is_denied(fs::write(at("run/file"), "")));
                assert!(UnixStream::connect(at("run/data.sock")).is_ok());
                deny_binding().unwrap();
                assert!(is_denied(UnixListener::bind(at("run/other.sock"))));
                fs::remove_file(at("run/data.sock")).unwrap();
            });
        });
    }

    #[test]
    fn a_port_can_be_bound_before_and_none_after() {
        if kernel().map_or(true, |abi| abi < 4) {
            println!("skipped: this kernel's Landlock knows no ports");
            return;
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                deny_binding().unwrap();
                assert!(is_denied(TcpListener::bind("127.0.0.1:0")));
                std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            });
        });
    }
}
