# Completion of kaasctl for bash. Installed to share/bash-completion/completions/kaasctl; without
# that package: source <(kaasctl completion bash)
#
# kaasctl __complete WORD... prints what may stand in the place of the last word, one candidate a
# line. "@files" among them means any file name.

_kaasctl() {
  # The words as they were typed: bash also splits at = and :, which our words contain.
  local line="${COMP_LINE:0:COMP_POINT}" words=() current
  read -ra words <<<"$line"
  if [[ $line == *[[:space:]] ]]; then words+=(""); fi
  current="${words[-1]}"

  local candidates=() candidate files=no
  while IFS= read -r candidate; do
    if [[ $candidate == @files ]]; then files=yes; else candidates+=("$candidate"); fi
  done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)

  # What bash will replace is what follows the last = or : of the word.
  local kept="${current%"${current##*[=:]}"}"
  if [[ $files == yes ]]; then
    local begun="${current##*[=:]}" at=""
    if [[ $begun == @* ]]; then at=@ begun="${begun#@}"; fi
    while IFS= read -r candidate; do
      candidates+=("$kept$at$candidate")
    done < <(compgen -f -- "$begun")
    compopt -o filenames 2>/dev/null
  fi

  COMPREPLY=()
  for candidate in "${candidates[@]}"; do
    COMPREPLY+=("${candidate#"$kept"}")
    if [[ $candidate == *= ]]; then compopt -o nospace 2>/dev/null; fi
  done
}

complete -F _kaasctl kaasctl
