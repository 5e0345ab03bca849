#!/bin/sh
# Called by uevent for every kernel event, one after the other: long work goes to the background.
export PATH=/usr/bin
case $ACTION/$SUBSYSTEM in
add/net) [ "$INTERFACE" = lo ] || /usr/lib/pileus/nic add "$INTERFACE" ;;
remove/net) /usr/lib/pileus/nic remove "$INTERFACE" ;;
add/virtio-ports) /usr/lib/pileus/agent & ;;
add/*) [ -z "$MODALIAS" ] || modprobe -q "$MODALIAS" 2>/dev/null & ;;
esac
