# Runs the command "$@" for as long as the process that holds the other end of our standard input lives.
# A kernel closes a pipe whichever way its owner ends (return, panic, Ctrl-C, kill -9), so nothing outlives a test run.
# Environment: LIFELINE_LOG takes the command's output; LIFELINE_FOLDER is deleted when the owner has gone.
exec 3<&0
"$@" </dev/null >>"$LIFELINE_LOG" 2>&1 3<&- &
child=$!
{
    cat <&3
    : >"$LIFELINE_FOLDER/orphaned"
    kill -KILL "$child"
} >/dev/null 2>&1 &
watcher=$!
exec 3<&-
echo "$child"
wait "$child"
status=$?
if [ -e "$LIFELINE_FOLDER/orphaned" ]; then
    rm -rf -- "$LIFELINE_FOLDER"
else
    # The child ended by itself: its number may soon belong to another process, which must not be killed for it.
    kill "$watcher" 2>/dev/null
fi
exit "$status"
