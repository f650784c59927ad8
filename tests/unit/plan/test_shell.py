"""A plan as a shell script: quoting, order, and nothing left out in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.kernel import flags
from cloche.kernel.features import Features
from cloche.plan import steps
from cloche.plan.compile import compile
from cloche.plan.launch import Launch
from cloche.plan.shell import as_shell
from cloche.plan.shell.functions import FUNCTIONS, used
from cloche.plan.shell.operations import OPERATIONS
from cloche.plan.shell.quoting import comment, content, word, words
from cloche.plan.steps import Plan, Step

SHELLCHECK = pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck")
HOSTILE = "a'b\"c$(touch /pwned)`id`\\ \n#;&|<>*?{1,2}~!\t\x01\u00e9"


def bash(script: str, *arguments: str) -> bytes:
    """Run a script that needs no privilege; return what it prints."""
    argv = ["bash", "-euc", script, "bash", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, timeout=20).stdout


def commands(script: str) -> str:
    """Return a script without its comments and empty lines."""
    lines = (line for line in script.splitlines() if line.strip())
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def text(*chosen: Step) -> str:
    """Return the script of a plan with these steps between the making and the program."""
    spawn = steps.spawn(flags.CLONE_NEWNS | flags.CLONE_NEWPID, why="made")
    root = steps.open_root("/some/root", clone=True, why="root")
    streams = steps.stdio(steps.STDIO_INHERIT, steps.STDIO_NULL, steps.STDIO_PIPE, why="streams")
    program = steps.exec(("/bin/true",), ("true",), ("A=b",), why="program")
    adopt = steps.adopt_stdio(why="adopted")
    return as_shell(Plan((streams, spawn, root, *chosen, adopt, program, steps.supervise(why=""))))


def after_pivot(*chosen: Step) -> str:
    """Return the script of a plan with these steps after pivot_root."""
    return text(steps.pivot_root(why="pivoted"), *chosen)


class TestQuoting:
    """Every value stays a value."""

    @pytest.mark.parametrize("value", ["", "plain", "~", "a=b", "-n", "'", HOSTILE, "\udcff"])
    def test_word(self, value: str) -> None:
        """A quoted word is the text itself to bash, even a name that isn't UTF-8."""
        assert bash(f"printf %s {word(value)}") == os.fsencode(value)

    @given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
    def test_word_is_one_line_of_ascii(self, value: str) -> None:
        """Whatever the text, its word can't leave its line, nor the script's encoding."""
        assert word(value).isascii()
        assert "\n" not in word(value)
        assert word(value).isprintable()

    def test_words(self) -> None:
        """Words stay apart, empty ones too."""
        values = ["", "a b", "", HOSTILE]
        printed = bash(f"printf '%s\\0' {words(values)}")
        assert printed.split(b"\0")[:-1] == [os.fsencode(value) for value in values]

    def test_content(self) -> None:
        """Every byte can be written into a file, in any order."""
        data = bytes(range(256)) + b"%s\\n1'\0007" + bytes(range(255, -1, -1))
        assert bash(f"printf {content(data)}") == data

    @given(st.text())
    def test_comment(self, value: str) -> None:
        """Each line of a comment is one, whatever it tells of."""
        lines = comment(value)
        assert all(line.startswith("#") and line.isprintable() and line.isascii() for line in lines)

    def test_hostile_values_everywhere(self, spec: Any, features: Features, launch: Launch) -> None:
        """A spec whose every text is hostile becomes a script that bash can parse."""
        spec["hostname"] = HOSTILE
        spec["process"]["args"] = [HOSTILE, HOSTILE]
        spec["process"]["env"] = [f"A={HOSTILE}", f"{HOSTILE}=1"]
        spec["process"]["cwd"] = f"/{HOSTILE}"
        spec["linux"]["maskedPaths"] = [f"/{HOSTILE}"]
        spec["linux"]["sysctl"] = {"net.a": HOSTILE}
        spec["mounts"].append(
            {"destination": f"/{HOSTILE}", "source": f"/{HOSTILE}", "options": ["bind"]}
        )
        launch = launch._replace(files=((HOSTILE.replace("/", ""), HOSTILE.encode()),))
        script = as_shell(compile(spec, features, launch))
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=20)
        assert script.isascii()


class TestPlan:
    """The plan's steps, in a script."""

    def test_table_is_complete(self) -> None:
        """Every operation has its commands, and no other has any."""
        assert OPERATIONS.keys() == {operation.name for operation in steps.OPERATIONS}

    def test_every_step_is_told(self, spec: Any, features: Features, launch: Launch) -> None:
        """Each step stands there with its number, and its manual page."""
        plan = compile(spec, features, launch)
        lines = as_shell(plan).splitlines()
        heads = [line.strip() for line in lines if line.strip().startswith("# ")]
        for number, step in enumerate(plan.steps):
            assert any(head.startswith(f"# {number}. ") for head in heads), step
        assert sum(f"[{step.operation.man}]" in "".join(heads) for step in plan.steps) == len(
            plan.steps
        )

    def test_beyond_a_shell(self, spec: Any, features: Features, launch: Launch) -> None:
        """What a shell can't do is said, at its place and at the top."""
        script = as_shell(compile(spec, features, launch))
        top = script.partition("\nset -euo")[0].replace("\n# ", " ")
        for name in ("keyring", "seccomp"):
            assert f"({name})" in top
        assert script.count("NOT DONE") == 2

    @SHELLCHECK
    @pytest.mark.parametrize("users", [False, True])
    def test_shellcheck(self, spec: Any, features: Features, launch: Launch, users: bool) -> None:
        """The linter of shell scripts has nothing to say."""
        spec["process"] |= {
            "terminal": True,
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
        }
        spec["root"]["readonly"] = True
        spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = ["/proc/x"]
        spec["annotations"] = {"cloche.root": "overlay", "cloche.init": "true"}
        if users:
            spec["linux"]["namespaces"].append({"type": "user"})
            maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
            spec["linux"] |= {"uidMappings": maps, "gidMappings": maps}
        launch = launch._replace(files=(("a", b"\0'"),), timeout_ms=1500)
        script = as_shell(compile(spec, features, launch))
        done = subprocess.run(
            ["shellcheck", "-"],
            input=script,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == ""

    def test_functions_are_defined(self) -> None:
        """A function that is used is there with those that it calls."""
        assert used(["make_node /a"]) == [
            "fail", "place_inside", "directory_inside", "entry_inside", "make_node",
        ]  # fmt: skip
        assert used(["nothing of them"]) == []
        for name, body in FUNCTIONS.items():
            assert f"\n{name}() {{" in f"\n{body}"

    def test_pivot_comes_last(self) -> None:
        """Nothing but bash itself is needed in the container once its root is the only one."""
        script = after_pivot(
            steps.chdir("/w", create=True, why=""),
            steps.mount_attributes("/", set=flags.MOUNT_ATTR_RDONLY, why=""),
            steps.rlimit(7, 10, -1, why=""),
        )
        inside = script.partition("become() {")[2].partition("\n}")[0]
        words_of_commands = {line.split()[0] for line in commands(inside).splitlines()}
        assert words_of_commands <= {
            "local", "echo", "TMOUT=0", "exec", "cd", "unset", "candidates=(/bin/true)",
            "status=127",
            "for", "if", "fi", "[[", "done", "printf", "exit",
        }  # fmt: skip
        assert script.index("remount,bind,ro") < script.index("bash -euc enter_root")
        assert "directory_inside /w" in script.partition("become() {")[0]
        assert "prlimit --nofile=10:unlimited" in script

    def test_baton(self) -> None:
        """What the host does in between is done while the child waits."""
        first = steps.id_map("0 1 2\n", group=False, why="")
        script = text(
            steps.unshare(flags.CLONE_NEWCGROUP, why=""),
            first,
            steps.propagation(flags.MS_PRIVATE, why=""),
        )
        child = script.partition("child_1() {")[2].partition("\n}")[0]
        assert child.rstrip().endswith('exec "${chain[@]}" bash -euc child_2')
        host = script.partition("coproc container")[2]
        assert host.index('echo >&"$gate"') < host.index('read -r _ <&"$ready"')
        assert host.index('read -r _ <&"$ready"') < host.index("/uid_map")
        assert "mount --make-rprivate /" in script.partition("child_2() {")[2]

    def test_host_makes_binds_that_only_it_may(self) -> None:
        """A tree that the host opened is bound by the host, in the child's mount namespace."""
        script = text(
            steps.open_tree(4, "/closed", recursive=False, why=""),
            steps.bind("/closed", "/open", slot=4, recursive=False, why=""),
        )
        helped = script.partition("helped_1() {")[2]
        assert "bind_inside --bind /closed /open" in helped
        assert '"${enter[@]}" --mount bash -euc helped_1' in helped

    def test_privileges_in_one(self) -> None:
        """One setpriv gives up everything: the next would lack the capabilities for it."""
        script = after_pivot(
            steps.bounding_set(0b101, why=""),
            steps.identity(5, 6, (7, 8), why=""),
            steps.capabilities(4, 4, 4, 4, why=""),
            steps.no_new_privs(why=""),
        )
        assert commands(script).count('setpriv "${privileges[@]}"') == 1
        assert "--bounding-set='-all,+chown,+dac_read_search'" in script
        assert "--reuid=5 --regid=6 --groups='7,8'" in script
        assert "--ambient-caps='-all,+dac_read_search'" in script

    def test_permitted_set_of_root(self) -> None:
        """Where setpriv leaves more than the launcher does, the script says so."""
        caps = steps.capabilities(1, 1, 0, 0, why="")
        bound = steps.bounding_set(0b11, why="")
        root = steps.identity(0, 0, (), why="")
        assert "setpriv(1) can't" not in after_pivot(bound, root, caps)
        script = after_pivot(bound, root, caps, steps.no_new_privs(why=""))
        assert "setpriv(1) can't" in script

    def test_moving_the_root(self) -> None:
        """A script pivots where the launcher would move the root, and says so."""
        script = text(steps.move_root(why=""), steps.chdir("/w", create=True, why=""))
        assert "NOT DONE: a shell can't move its own root" in script
        assert "bash -euc enter_root" in script

    def test_network_device(self) -> None:
        """A device moves by ip(8), to a process or to a namespace with a path."""
        script = text(
            steps.net_device("eth1", "eth9", why=""),
            steps.net_device("eth2", "eth2", path="/run/netns/x", why=""),
            steps.net_device("eth3", "net%d", why=""),
        )
        assert 'move_net_device eth1 eth9 "/proc/$pid/ns/net"' in script
        assert "move_net_device eth2 eth2 /run/netns/x" in script
        assert "NOT DONE: ip(8) doesn't tell" in script

    def test_mapped_owners(self) -> None:
        """The mapping is mount(8)'s to make, each slot's own however often it is filled."""
        script = text(
            steps.idmap_tree(4, "/a", uids="0 5 9\n9 0 1\n", gids="0 5 9\n", why=""),
            steps.bind("/a", "/v", slot=4, why=""),
            steps.idmap_tree(4, "/b", why=""),
            steps.bind("/b", "/w", slot=4, why=""),
            steps.open_tree(4, "/c", recursive=True, why=""),
            steps.bind("/c", "/x", slot=4, why=""),
        )
        assert "bind_mapped --rbind /a \"$REPLY\" 'u:0:5:9 u:9:0:1 g:0:5:9'" in script
        assert 'bind_mapped --rbind /b "$REPLY" "/proc/$pid/ns/user"' in script
        assert "bind_inside --rbind /c /x" in script

    def test_what_is_beneath(self, tmp_path: Any) -> None:
        """Content, owner and mode come from the directory as it was before the mount."""
        script = text(
            steps.mount("tmpfs", "t", (), 1, "/a", beneath=steps.BENEATH_CONTENT | 1, why="")
        )
        lines = [line.strip() for line in commands(script).splitlines()]
        at = lines.index("open_beneath /a")
        assert lines[at + 1 : at + 4] == [
            'mount --types tmpfs -- t "$REPLY"',
            "take_over content mode",
            'mount --options remount,bind,ro "$REPLY"',
        ]
        (tmp_path / "root/a/sub").mkdir(parents=True)
        (tmp_path / "root/a").chmod(0o711)
        (tmp_path / "root/a/.file").touch()
        (tmp_path / "new").mkdir()
        functions = "".join(FUNCTIONS[name] for name in used(["open_beneath ", "take_over "]))
        bash(
            f"{functions}root=$1/root; open_beneath /a; REPLY=$1/new; take_over content mode",
            str(tmp_path),
        )
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [".file", "sub"]
        assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o711

    def test_changes_of_mounts(self) -> None:
        """A remount of the file system, attributes and propagation are told apart."""
        script = text(
            steps.reconfigure("/a", ("size=1m", "async"), why=""),
            steps.mount_attributes("/b", set=1, propagation=flags.MS_SLAVE, why=""),
            steps.mount_attributes("/c", propagation=flags.MS_SHARED | flags.MS_REC, why=""),
        )
        assert 'mount --options remount,size=1m,async "$REPLY"' in script
        assert 'mount --options remount,bind,ro "$REPLY"' in script
        assert 'mount --make-slave "$REPLY"' in script
        assert 'mount --make-rshared "$REPLY"' in script

    def test_time_namespace(self) -> None:
        """The offsets are given as it is made; what isn't a whole second is told."""
        script = text(steps.time_namespace("boottime 5 7\nmonotonic -3 0\n", why=""))
        assert "chain=(unshare --time --boottime=5 --monotonic=-3)" in script
        assert "NOT DONE: unshare(1) leaves out the 7 ns of boottime" in script

    def test_new_capability(self) -> None:
        """A capability newer than the table is given by its number."""
        assert "+cap_50'" in after_pivot(steps.bounding_set(1 << 50, why=""))

    def test_readonly_mount_of_a_writable_file_system(self) -> None:
        """Read-only is the mount, not the file system beneath all its mounts."""
        script = text(
            steps.mount(
                "sysfs",
                "sysfs",
                (),
                flags.MOUNT_ATTR_RDONLY | flags.MOUNT_ATTR_NOSUID,
                "/sys",
                why="",
            )
        )
        assert "mount --types sysfs --options nosuid -- sysfs" in script
        assert 'mount --options remount,bind,ro "$REPLY"' in script

    def test_shells_own_variables(self) -> None:
        """Variables that bash sets itself are as in the plan, not as in the script."""
        program = steps.exec(("/x",), ("x",), ("PWD=/a b", "A=1", "odd"), why="")
        script = as_shell(Plan((steps.spawn(0, why=""), program)))
        assert "env --default-signal --ignore-environment -- A=1 \\" in script
        assert "export 'PWD=/a b'" in script
        assert "NOT DONE: environment entries without '=': odd" in script


class TestPlaces:
    """Paths of the container, found beneath its root."""

    @pytest.fixture
    def tree(self, tmp_path: Any) -> Any:
        """A root with links that would lead out of it."""
        (tmp_path / "root/run").mkdir(parents=True)
        (tmp_path / "root/var").mkdir()
        (tmp_path / "root/var/run").symlink_to("/run")
        (tmp_path / "root/up").symlink_to("../../..")
        (tmp_path / "root/loop").symlink_to("loop")
        return tmp_path / "root"

    @pytest.mark.parametrize(
        ("path", "place"),
        [
            ("/", ""),
            ("/run", "/run"),
            ("//var/./run/x y", "/run/x y"),
            ("/up/etc", "/etc"),
            ("/../../run", "/run"),
            ("/none/../run", "/run"),
            ("relative", "/relative"),
        ],
    )
    def test_place(self, tree: Any, path: str, place: str) -> None:
        """Links and dots are followed as they are in the container."""
        script = FUNCTIONS["fail"] + FUNCTIONS["place_inside"]
        script += f'root={word(str(tree))}; place_inside "$1"; printf %s "$REPLY"'
        assert bash(script, path).decode() == f"{tree}{place}"

    def test_loop(self, tree: Any) -> None:
        """A link to itself ends with an error."""
        script = FUNCTIONS["fail"] + FUNCTIONS["place_inside"]
        script += f"root={word(str(tree))}; place_inside /loop"
        argv = ["bash", "-euc", script]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (125, "/loop: too many symbolic links\n")
