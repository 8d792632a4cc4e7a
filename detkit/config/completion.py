"""Complete verbs, flags, groups, options and keys in bash."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from detkit.config.overrides import all_groups, config_loader, options_of
from detkit.core.errors import UserError

# A word ends at "=" for bash, but not for Hydra: what stands before it is taken off the answers again.
SCRIPT = r"""_detkit() {
    local line="${COMP_LINE:0:COMP_POINT}" before="" IFS=$'\n'
    local word="${line##* }"
    [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]] && before="${word%=*}="
    COMPREPLY=($(COMP_LINE="$line" "${COMP_WORDS[0]}" --shell-completion query=bash 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o nospace -o default -F _detkit detkit"""
FLAGS = ("--cfg", "--config-dir", "--config-name", "--help", "--info", "--multirun", "--version")


def answer(arguments: Sequence[str], verbs: dict[str, str], config_dir: str) -> str:
    """What `detkit -sc install=bash`, `uninstall=bash` or `query=bash` prints.

    verbs: the config of each verb. The line to be completed is $COMP_LINE. Raises UserError for another shell.
    """
    asked = [word for word in arguments if "=" in word]
    if asked == ["install=bash"]:
        return SCRIPT
    if asked == ["uninstall=bash"]:
        return "complete -r detkit; unset -f _detkit"
    if asked == ["query=bash"]:
        return "\n".join(candidates(os.environ.get("COMP_LINE", ""), verbs, config_dir))
    raise UserError('completion is for bash: eval "$(detkit -sc install=bash)", and uninstall=bash takes it away')


def candidates(line: str, verbs: dict[str, str], config_dir: str) -> list[str]:
    """The words that may stand where `line` ends, sorted; `line` begins with the command itself."""
    _, *words = line.split()
    word = "" if line.endswith(" ") or not words else words.pop()
    if word.startswith("-"):
        return [flag for flag in FLAGS if flag.startswith(word)]
    if not words:
        return sorted(verb for verb in verbs if verb.startswith(word))
    return [] if words[0] not in verbs else _arguments(verbs[words[0]], words[1:], word, config_dir)


def _arguments(config_name: str, words: Sequence[str], word: str, config_dir: str) -> list[str]:
    """Groups, options, keys and values that `word` may become behind the arguments `words` of a verb."""
    try:
        options = get_args_parser().parse_intermixed_args(list(words))
        loader = config_loader(config_dir, os.path.abspath(options.config_dir) if options.config_dir else None)
        found = BashCompletion(loader)._query(options.config_name or config_name, " ".join([*options.overrides, word]))
    except (SystemExit, HydraException, OmegaConfBaseException):  # what stands there does not fit, or needs a word more
        return []
    words_found = {str(item) for item in found} - {word}
    whole = {item for item in words_found if item.endswith((".", "=", "/")) or "=" in item}
    groups = words_found - whole - {"hydra"}  # which have options and groups in them
    folders = _folders(loader, word) if "=" in word else []
    both = {f"{group}{end}" for group in groups for end in "=/"}
    return sorted({item for item in whole if not item.startswith("hydra")} | both | set(folders))


def _folders(loader: ConfigLoaderImpl, word: str) -> list[str]:
    """The options of experiments that lie in folders; the folders of other groups are groups of their own."""
    group, _, option = word.partition("=")
    if group != "experiment":
        return []
    folder, _, _ = option.rpartition("/")
    inside = f"{group}/{folder}" if folder else group
    names = [f"{group}={folder}/{name}" for name in options_of(loader, inside)] if folder else []
    names += [f"{group}={inner.removeprefix(f'{group}/')}/" for inner in all_groups(loader, inside)]
    return [name for name in names if name.startswith(word)]
