#!/bin/sh
# Makes what the nodes of a cluster need to know each other, for trying things out: an authority, a certificate for each node, and a
# key for gossip. In production an authority of your own signs them (Kubernetes: cert-manager, see kubernetes.yaml).
#   certificates.sh DIRECTORY CLUSTER NODE...     e.g. certificates.sh /run/syncline syncline a b c
# What is there already stays. Each certificate names `<node>.<cluster>` for other nodes, and the node and localhost for clients of
# its API. Valid for a year.
set -eu
directory=$1 cluster=$2
shift 2
umask 077
mkdir -p "$directory"
cd "$directory"
if [ ! -f ca.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca-key.pem -out ca.pem -days 365 \
        -subj "/CN=$cluster authority" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
fi
[ -f gossip.key ] || openssl rand -base64 32 >gossip.key
for node in "$@"; do
    [ ! -f "$node.pem" ] || continue
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$node-key.pem" -out "$node.csr" -subj "/CN=$node.$cluster"
    {
        echo "subjectAltName=DNS:$node.$cluster,DNS:$node,DNS:localhost,IP:127.0.0.1"
        echo "extendedKeyUsage=serverAuth,clientAuth"
        echo "basicConstraints=critical,CA:FALSE"
    } >"$node.ext"
    openssl x509 -req -in "$node.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out "$node.pem" -days 365 -extfile "$node.ext"
    rm "$node.csr" "$node.ext"
done
