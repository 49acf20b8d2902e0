# Completion of kaasctl for bash. Installed to share/bash-completion/completions/kaasctl; without
# that package: source <(kaasctl completion bash)
#
# kaasctl __complete WORD... prints what may stand in the place of the last word, one candidate a
# line. "@files" among them means any file name.

_kaasctl() {
  # The words as they were typed: bash also splits at = and :, which our words contain. Without -r,
  # read takes a blank behind a backslash as part of the word, as bash does.
  local line="${COMP_LINE:0:COMP_POINT}" words=() current
  read -a words <<<"$line"
  if [[ $line == *[[:space:]] && $line != *\\[[:space:]] ]]; then words+=(""); fi
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
    if [[ $candidate == *= ]]; then compopt -o nospace 2>/dev/null; fi
    candidate="${candidate#"$kept"}"
    # Names of files are quoted by bash itself.
    if [[ $files == no ]]; then printf -v candidate %q "$candidate"; fi
    COMPREPLY+=("$candidate")
  done
}

complete -F _kaasctl kaasctl
