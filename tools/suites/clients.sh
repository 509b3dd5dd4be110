#!/usr/bin/env bash
# clients.sh HOST:PORT [NAME]...: a short program for each of kafka-python, aiokafka, KafkaJS, franz-go, Sarama and the Java
# client: create a topic, produce with and without idempotence, consume as a group of two, commit, resume. They install
# their library with the language's own package tool into the cache.
source "$(dirname "$0")/lib.sh"
b=$1
shift
[ $# -gt 0 ] || set -- kafka-python aiokafka kafkajs franz-go sarama java
programs=$root/tools/suites/clients

python_with() {  # PACKAGE VERSION [PACKAGE...]: prints the python of an environment that has it
  need python3 python3
  local folder=$cache/python-$1-$2
  if [ ! -x "$folder/bin/python" ]; then
    rm -rf "$folder"
    python3 -m venv "$folder" >&2 || skip "$1 because python3 has no venv"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$1==$2" "${@:3}" >&2 || { rm -rf "$folder"; skip "$1 because pip could not install it"; }
  fi
  echo "$folder/bin/python"
}

client_kafka-python() { local python; python=$(python_with kafka-python 2.2.15); "$python" "$programs/kafka_python.py" "$b"; }
client_aiokafka() { local python; python=$(python_with aiokafka 0.14.0); "$python" "$programs/aio_kafka.py" "$b"; }

client_kafkajs() {
  need npm npm
  local folder=$cache/kafkajs
  if [ ! -d "$folder/node_modules/kafkajs" ]; then
    mkdir -p "$folder"
    npm install --silent --no-audit --no-fund --prefix "$folder" kafkajs@2.2.4 || skip "kafkajs because npm could not install it"
  fi
  NODE_PATH=$folder/node_modules KAFKAJS_NO_PARTITIONER_WARNING=1 node "$programs/kafkajs.js" "$b"
}

go_client() {  # NAME: builds the program of that folder
  need go golang-go
  local folder=$cache/go-$1
  mkdir -p "$folder"
  cp "$programs/$1"/* "$folder/"
  (cd "$folder" && go mod tidy && go build -o client .) >"$folder/build.log" 2>&1 || { tail -n 5 "$folder/build.log"; skip "$1 because its module could not be built"; }
  "$folder/client" "$b"
}
client_franz-go() { go_client franz-go; }
client_sarama() { go_client sarama; }

client_java() {
  need_oracle "the Java client (its jars come with the oracle)"
  local classes=$cache/java-client
  mkdir -p "$classes"
  javac -nowarn -cp "$("$oracle_folder/kafka-classpath")" -d "$classes" "$programs/JavaClient.java"
  java -cp "$classes:$("$oracle_folder/kafka-classpath")" "-Dlog4j2.configurationFile=$oracle_folder/log4j2-tools.xml" JavaClient "$b"
}

code=0
for name in "$@"; do
  begin=$SECONDS ended=0
  ("client_$name") || ended=$?
  case $ended in
    0) echo "$name: ok, $((SECONDS - begin)) s" ;;
    77) ;;
    *) echo "$name: FAILED with $ended"; code=1 ;;
  esac
done
exit $code
