// The completion of `postern-gateway` for bash and zsh, written from the table of commands.
import { COMMANDS, type CommandName, optionsOf } from './command.ts'

const NAMES = Object.keys(COMMANDS) as CommandName[]

/** What may follow each first word. */
function words(): Map<string, string[]> {
  const found = new Map<string, string[]>()
  for (const name of NAMES) {
    const [first = '', second] = name.split(' ')
    found.set(first, [...(found.get(first) ?? []), ...(second === undefined ? [] : [second])])
  }
  return found
}

export function completion(shell: 'bash' | 'zsh'): string {
  const cases = NAMES.map((name) => `    '${name}') words='${optionsOf(name).join(' ')}' ;;`)
  const seconds = [...words()].filter(([, next]) => next.length > 0).map(([first, next]) => `    ${first}) words='${next.join(' ')}' ;;`)
  const bash = `# Completion of postern-gateway: eval "$(postern-gateway completion ${shell})"
_postern_gateway() {
  local words='' word=\${COMP_WORDS[COMP_CWORD]} first=\${COMP_WORDS[1]} second=\${COMP_WORDS[2]}
  case $first in
${seconds.join('\n')}
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then words='${[...words().keys()].join(' ')} help version'
  elif [ "$COMP_CWORD" -gt 2 ] || [ -z "$words" ]; then
    words=''
    case "$first\${second:+ $second}" in
${cases.join('\n')}
    esac
    [ -n "$words" ] || case $first in
${cases.join('\n')}
    esac
  fi
  case $word in
    -* | '') COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$word")); [ \${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}
complete -F _postern_gateway postern-gateway
`
  return shell === 'bash' ? bash : `autoload -U +X bashcompinit && bashcompinit\n${bash}`
}
