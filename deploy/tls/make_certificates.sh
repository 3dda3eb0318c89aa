#!/usr/bin/env bash
# Makes a certificate authority, and a certificate signed by it for the scheduler, workers and clients of a Dask cluster.
#   make_certificates.sh FOLDER [DAYS]
set -euo pipefail

[[ $# -ge 1 && $# -le 2 ]] || { echo "Usage: $0 FOLDER [DAYS]" >&2; exit 2; }
folder=$1 days=${2:-365}
[[ ! -e $folder/ca.pem ]] || { echo "$folder already holds a certificate authority: choose another folder." >&2; exit 2; }

umask 077
mkdir -p "$folder"
cd "$folder"
curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${curve[@]}" -keyout ca-key.pem -out ca.pem -days "$days" -subj "/CN=cryolike authority" \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
openssl req "${curve[@]}" -keyout key.pem -out request.pem -subj "/CN=cryolike" 2>/dev/null
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out cert.pem -days "$days" 2>/dev/null \
  -extfile <(printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n')
rm -f request.pem ca.srl
openssl verify -CAfile ca.pem cert.pem >/dev/null
echo "$folder: copy ca.pem, cert.pem and key.pem to every host. Keep ca-key.pem here."
