#!/bin/sh
# Builds Citus for Debian's PostgreSQL 15, in a folder of its own: build-citus.sh FOLDER [SOURCE]
# SOURCE is a repository of Citus, by default the public one. Needs apt-get, git, gcc, make, and the headers of OpenSSL.
set -eu

here=$1
source=${2:-https://github.com/citusdata/citus}
version=v13.2.2
libraries=$here/pg/usr/lib/x86_64-linux-gnu

mkdir -p "$here/packages"
cd "$here/packages"
apt-get download postgresql-15 postgresql-client-15 postgresql-server-dev-15 libpq5 libpq-dev \
    libzstd-dev liblz4-dev libkrb5-dev krb5-multidev comerr-dev
for package in *.deb; do
    dpkg -x "$package" "$here/pg"
done
# The packages link to libraries that the system has elsewhere.
for library in libzstd liblz4; do
    ln -sf "/usr/lib/x86_64-linux-gnu/$library.so.1" "$libraries/$library.so"
done

git clone --quiet --depth 1 --branch "$version" "$source" "$here/source"
cd "$here/source"
# PostgreSQL 15.20 exports a function that Citus defines for itself.
if grep -q have_createdb_privilege "$here/pg/usr/include/postgresql/15/server/commands/dbcommands.h"; then
    python3 - <<'EOF'
from pathlib import Path

header = Path("src/include/pg_version_compat.h")
text = header.read_text()
begin = text.index("static inline bool\nhave_createdb_privilege(void)")
end = text.index("\n}\n", begin) + len("\n}\n")
include = '#include "miscadmin.h"\n'
header.write_text((text[:begin] + text[end:]).replace(include, include + '#include "commands/dbcommands.h"\n', 1))
EOF
fi
export CPPFLAGS="-I$here/pg/usr/include -I$here/pg/usr/include/mit-krb5" LDFLAGS="-L$libraries"
./configure --quiet PG_CONFIG="$here/pg/usr/lib/postgresql/15/bin/pg_config" --without-libcurl
make --silent -j"$(nproc)" with_llvm=no
make --silent install with_llvm=no
echo "$here/pg/usr/lib/postgresql/15/bin"
