# Sourced by the scripts that run Python: an environment with packages exactly as a requirements file with hashes names them.

# Prints the interpreter of such an environment. Made once for each content of the file.
python_packages() { # requirements file
  local file=$1 sum out
  sum=$(sha256sum "$file" | cut -c1-12)
  out=$top/.cache/python/$(basename "$file" .txt)-$sum
  if [ ! -e "$out/installed" ]; then
    rm -rf "$out"
    python3 -m venv "$out"
    # Without looking for dependencies: the file names them all, and pip would take the newest of one that is asked for with an extra.
    "$out/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: -r "$file" >&2 &&
      "$out/bin/pip" --disable-pip-version-check check >&2 ||
      die "the packages of $file could not be installed"
    touch "$out/installed"
  fi
  echo "$out/bin/python"
}
