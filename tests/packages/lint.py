"""What can be told of the packages without installing them."""
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNIT = "packaging/systemd/spanwire.service"
# docs/INSTALL.md says it too.
EXPOSURE = re.compile(r"exposure level [^\n]*\*\*([\d.]+)\*\*")


def run(*command, fails=False):
    done = subprocess.run(list(map(str, command)), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert bool(done.returncode) == fails, f"{command[0]} ends with {done.returncode}:\n{done.stdout}"
    return done.stdout.strip()


def deb(packages):
    """lintian has nothing to say of the deb"""
    said = run("lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags", "bad-distribution-in-changes-file",
               packages["deb"])
    assert not re.search("^[EW]:", said, re.M), said


def rpm(packages):
    """rpmlint has nothing to say of the rpm"""
    said = run("rpmlint", "--config", "packaging/rpm/rpmlint.toml", packages["rpm"])
    assert "0 errors, 0 warnings" in said, said


def depends(packages):
    """Neither depends on anything but what runs its scripts"""
    assert run("dpkg-deb", "--field", packages["deb"], "Depends") == ""
    wanted = {line for line in run("rpm", "-qp", "--requires", packages["rpm"]).splitlines() if not line.startswith("rpmlib(")}
    assert {line.split()[0] for line in wanted} <= {"/bin/sh", "config(spanwire)"}, wanted


def static(packages):
    """The binary in them needs no library, and has no symbols left"""
    with tempfile.TemporaryDirectory() as directory:
        run("dpkg-deb", "-x", packages["deb"], directory)
        said = run("readelf", "--program-headers", "--dynamic", "--section-headers", "--wide", f"{directory}/usr/bin/spanwire")
    assert "NEEDED" not in said and "INTERP" not in said and ".debug_info" not in said and ".symtab" not in said, said


def same(packages):
    """Built again they are the same bytes"""
    with tempfile.TemporaryDirectory() as directory:
        run("packaging/build", directory)
        for one in packages.values():
            assert (Path(directory) / one.name).read_bytes() == one.read_bytes(), one.name


def unit(_):
    """The unit is exposed no more than docs/INSTALL.md says"""
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT)
    found = float(re.search(r"Overall exposure level for .*: ([\d.]+)", said)[1])
    told = float(EXPOSURE.search((ROOT / "docs/INSTALL.md").read_text())[1])
    assert found <= told, f"{found}, and the page says {told}"


def pages(_):
    """man has nothing to say of the pages"""
    for page in (ROOT / "packaging/man").iterdir():
        assert run("man", "--warnings", "--encoding=UTF-8", "--local-file", "-Tutf8", "--ditroff", page) != ""
        said = subprocess.run(["man", "--warnings", "-l", "-Tutf8", page], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
        assert said == "", said


def completions(_):
    """The shells take the completions, and complete with them"""
    bash = run("bash", "-ec", 'source packaging/completions/spanwire.bash; COMP_WORDS=(spanwire ch) COMP_CWORD=1; _spanwire spanwire ch spanwire; '
               'echo "${COMPREPLY[@]}"')
    assert bash == "check", bash
    assert "check" in run("fish", "--no-config", "-c", 'source packaging/completions/spanwire.fish; complete -C "spanwire ch"')
    run("zsh", "-n", "packaging/completions/_spanwire")


CASES = (deb, rpm, depends, static, same, unit, pages, completions)


def main(packages):
    failed = 0
    for case in CASES:
        try:
            case(packages)
            fault = None
        except AssertionError as error:
            fault = f"\n       {error}"
        failed += bool(fault)
        print(f"{'FAILED' if fault else 'ok    '} {case.__doc__}{fault or ''}", flush=True)
    print(f"{len(CASES)} tests, {failed} failed")
    return bool(failed)
