"""The commands of a SLURM cluster, as far as submitit uses them, on this machine: jobs begin at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_SBATCH = """
import os, re, subprocess, sys
from pathlib import Path
state, script = Path(os.environ["SLURM_STAND_IN"]), Path(sys.argv[1]).read_text()
options = dict(re.findall(r"^#SBATCH --([\\w-]+)=(.*)$", script, re.M))
(state / "options").open("a").write(f"{options}\\n")
if options.get("partition") == "none":
    sys.exit("sbatch: error: invalid partition specified: none")
job = 100 + len(list(state.glob("*.count")))
count = int(re.match(r"0-(\\d+)", options["array"])[1]) + 1 if "array" in options else 0
(state / f"{job}.count").write_text(str(count))
for place in range(max(1, count)):
    name = f"{job}_{place}" if count else str(job)
    own = {"SLURM_JOB_ID": str(job + place), "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0",
           "SLURM_JOB_NODELIST": "here", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    own |= {"SLURM_ARRAY_JOB_ID": str(job), "SLURM_ARRAY_TASK_ID": str(place)} if count else {}
    said = options["error"].replace("%A", str(job)).replace("%a", str(place)).replace("%j", name)
    Path(said).parent.mkdir(parents=True, exist_ok=True)
    shell = f"echo $$ > {state}/{name}.running; bash {sys.argv[1]}; mv {state}/{name}.running {state}/{name}.over"
    subprocess.Popen(["bash", "-c", shell], env={**os.environ, **own}, stdout=subprocess.DEVNULL,
                     stderr=open(said, "a"), start_new_session=True)
print("Submitted batch job", job)
"""
_SRUN = """
import os, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words = words[1:] if words[0] == "--unbuffered" else words[2:]
os.execvp(words[0], words)
"""
_SACCT = """
import os
from pathlib import Path
state = Path(os.environ["SLURM_STAND_IN"])
print("JobID|State|NodeList")
for file in [*state.glob("*.running"), *state.glob("*.over")]:
    print(f"{file.stem}|{'RUNNING' if file.suffix == '.running' else 'FAILED'}|here")
"""


def write_commands(folder: Path) -> dict[str, str]:
    """sbatch, srun and sacct in a folder; gives the variables by which they are found and keep their state.

    A job is over when its processes are; ``sacct`` calls it failed, and only an answer of its own makes it a success.
    """
    state = folder / "state"
    state.mkdir(parents=True)
    for name, text in (("sbatch", _SBATCH), ("srun", _SRUN), ("sacct", _SACCT)):
        (folder / name).write_text(f"#!{sys.executable}\n{text.strip()}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "SLURM_STAND_IN": str(state)}
