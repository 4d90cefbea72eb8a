#!/bin/sh
# rotate.sh FILE COUNT: renames FILE to FILE.1, FILE.1 to FILE.2 and so on, and keeps COUNT old files.
file=$1
count=$2
n=$count
while [ $n -gt 1 ]; do
  old=$((n - 1))
  if [ -f $file.$old ]; then
    mv $file.$old $file.$n
  fi
  n=$old
done
mv $file $file.1
touch $file
