"""Compares scripts over environments and seeds: suite -> launch -> run_folder -> report.

- suite: a TOML file or the command line becomes a list of runs.
- launch: starts the runs on this machine or on Slurm, and watches over each of them.
- run_folder: reads and writes the files that a run leaves. origin: notes the commit and the machine of a run.
- report: turns finished runs into one HTML page, figures and CSV files.
- claims: reproduces one result of a paper for each script. speed: times scripts.
- peers: other libraries' agents, and an audit of released packages.
- envs: the environments that we wrote. third_party: tries packages of environments that others wrote, each in a
  package_venv.
- pages: writes tables and numbers into docs/results.
"""
