# Sourced by the scripts that run JavaScript: Node, and packages exactly as a lock file names them.
version_of_node() { node --version 2>/dev/null | tr -d v; }

need_node() { # least major version
  local found
  found=$(version_of_node)
  [ -n "$found" ] && [ "${found%%.*}" -ge "$1" ] || die "Node >= $1 is needed; found ${found:-none}"
  command -v npm >/dev/null || die "npm is needed"
}

# Prints a folder that holds node_modules as the lock file in $1 says. Installed once for each content of that file.
node_packages() { # folder of package.json and package-lock.json
  local folder=$1 name sum out
  name=$(basename "$folder")
  sum=$(sha256sum "$folder/package-lock.json" | cut -c1-12)
  out=$top/.cache/node/$name-$sum
  if [ ! -e "$out/installed" ]; then
    rm -rf "$out"
    mkdir -p "$out"
    cp "$folder/package.json" "$folder/package-lock.json" "$out/"
    # What a package would run at its installation is not run.
    (cd "$out" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) || die "the packages of $folder could not be installed"
    touch "$out/installed"
  fi
  echo "$out"
}
