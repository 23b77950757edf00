"""`headstart completion` and `headstart schema`: what shells and editors complete from."""

import argparse
import json

from headstart_pipelines.commands.arguments import Command, names, option

# zsh reads bash's completions through bashcompinit.
_BASH = """\
{zsh}_headstart() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" known=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        known="{commands} --help --version"
    else
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$known" -- "$word"))
    if [ "$COMP_CWORD" -gt 1 ] && [ "${{word#-}}" = "$word" ]; then
        COMPREPLY+=($(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _headstart headstart
"""


def _completion(options: argparse.Namespace) -> None:
    from headstart_pipelines.cli import _parser

    (commands,) = (each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction))
    taken = {name: _words(parser) for name, parser in commands.choices.items()}
    if options.shell == "fish":
        print("\n".join(_fish(taken, {each.dest: each.help or "" for each in commands._choices_actions})))
        return
    cases = "\n".join(f'            {name}) known="{" ".join(words)}" ;;' for name, words in taken.items())
    zsh = "autoload -U +X bashcompinit && bashcompinit\n" if options.shell == "zsh" else ""
    print(_BASH.format(zsh=zsh, commands=" ".join(taken), cases=cases), end="")


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """The options and the named choices that a command takes."""
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    words = [name for action in actions for name in action.option_strings if name.startswith("--")]
    for action in actions:
        words += [str(choice) for choice in action.choices or ()]
        words += names("recipes") if action.dest == "recipe" else []
        words += names("profiles") if action.dest == "profile" else []
    return words


def _fish(taken: dict[str, list[str]], summaries: dict[str, str]) -> list[str]:
    lines = []
    for name, words in taken.items():
        summary = summaries[name].replace("'", "\\'")
        lines.append(f"complete -c headstart -n __fish_use_subcommand -f -a {name} -d '{summary}'")
        for word in words:
            given = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            lines.append(f"complete -c headstart -n '__fish_seen_subcommand_from {name}' {given}")
    return lines


def _schema(options: argparse.Namespace) -> None:
    from headstart.recipe.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=2))


COMMANDS = (
    Command(
        "completion",
        _completion,
        "print the completion of commands and options for a shell",
        'headstart completion bash > ~/.local/share/bash-completion/completions/headstart\n'
        '  headstart completion zsh >> ~/.zshrc\n'
        '  headstart completion fish > ~/.config/fish/completions/headstart.fish',
        (option("shell", choices=("bash", "zsh", "fish"), help="bash, zsh or fish"),),
    ),
    Command(
        "schema",
        _schema,
        "print the JSON schema of recipes, by which editors complete and check them",
        "headstart schema > recipe.schema.json",
        (),
    ),
)  # fmt: skip
