"""What Python's huggingface_hub sees, as one JSON object on stdout, for tests/hub/interoperation.rs to judge.

    read_hub.py client REPO REVISION     what the server says: information, file tree, errors
    read_hub.py fetch REPO [PATTERN...]  snapshot_download into the cache
    read_hub.py cache REPO REVISION      what is in the cache, with no network at all
    read_hub.py remove REPO              removes a repository from the cache: what it said before, and what it freed

HF_ENDPOINT and HF_HUB_CACHE say where the Hub and the cache are. Needs huggingface_hub 1.0 or newer, nothing else.
"""

import json
import os
import sys
import warnings

os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
warnings.simplefilter("error")

import huggingface_hub
from huggingface_hub import HfApi, hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache


def error_name(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return None


def client(repo, revision):
    api = HfApi()
    info = api.model_info(repo, revision=revision, files_metadata=True)
    tree = [entry for entry in api.list_repo_tree(repo, revision=revision, recursive=True, expand=True)]
    files = [entry for entry in tree if hasattr(entry, "blob_id")]
    metadata = {}
    for entry in files:
        url = huggingface_hub.hf_hub_url(repo, entry.path, revision=revision)
        found = huggingface_hub.get_hf_file_metadata(url)
        metadata[entry.path] = {"etag": found.etag, "size": found.size, "commit": found.commit_hash}
    return {
        "sha": info.sha,
        "gated": info.gated,
        "license": info.card_data and info.card_data.license,
        "siblings": {s.rfilename: s.lfs.sha256 if s.lfs else s.blob_id for s in info.siblings},
        "tree": {entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in files},
        "sizes": {entry.path: entry.size for entry in files},
        "folders": [entry.path for entry in tree if not hasattr(entry, "blob_id")],
        "metadata": metadata,
        "errors": {
            "repo": error_name(lambda: api.model_info("nobody/nothing")),
            "revision": error_name(lambda: api.model_info(repo, revision="no-such-branch")),
            "entry": error_name(lambda: hf_hub_download(repo, "no-such-file", revision=revision)),
            "gated": error_name(lambda: hf_hub_download("org/gated", "config.json")),
        },
    }


def remove(repo):
    info = scan_cache_dir()
    found = next(entry for entry in info.repos if entry.repo_id == repo and entry.repo_type == "model")
    strategy = info.delete_revisions(*[revision.commit_hash for revision in found.revisions])
    strategy.execute()
    return {"expected": strategy.expected_freed_size, "size": info.size_on_disk, "repo": found.size_on_disk}


def fetch(repo, *patterns):
    return {"path": snapshot_download(repo, allow_patterns=list(patterns) or None)}


def cache(repo, revision):
    scan = scan_cache_dir()
    repos = {}
    for cached in scan.repos:
        repos[cached.repo_id] = {
            "type": cached.repo_type,
            "size": cached.size_on_disk,
            "revisions": {
                snapshot.commit_hash: {
                    "refs": sorted(snapshot.refs),
                    "size": snapshot.size_on_disk,
                    # `file_name` has no folder.
                    "files": {
                        os.path.relpath(file.file_path, snapshot.snapshot_path): {
                            "size": file.size_on_disk,
                            "blob": os.path.basename(file.blob_path),
                        }
                        for file in snapshot.files
                    },
                }
                for snapshot in cached.revisions
            },
        }
    path = snapshot_download(repo, revision=revision, local_files_only=True)
    names = [os.path.relpath(os.path.join(folder, name), path) for folder, _, files in os.walk(path) for name in files]
    return {
        "warnings": [str(warning) for warning in scan.warnings],
        "size": scan.size_on_disk,
        "repos": repos,
        "path": path,
        "downloads": {name: hf_hub_download(repo, name, revision=revision, local_files_only=True) for name in names},
        "loads": {name: try_to_load_from_cache(repo, name, revision=revision) for name in names},
    }


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    found = {"client": client, "fetch": fetch, "cache": cache, "remove": remove}[what](*arguments)
    json.dump({"version": huggingface_hub.__version__, **found}, sys.stdout)
