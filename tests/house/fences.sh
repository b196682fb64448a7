# Sourced by docs.sh and commands.sh: what stands in the fenced blocks of a page.
#
#   ```sh runs             commands, which succeed; a page's blocks run in order, in one scratch folder
#   ```sh fails N          commands that end with exit code N
#   ```text shown          lines that stood in what the block before them printed
#   ```text                a picture of characters
#   ```cpp quotes PATH     paragraphs of a file that the tests build and run
#   ```LANG not run: WHY   neither; docs.sh counts these

# for_each_fence PAGE FUNCTION: calls FUNCTION LINE LANG KIND BLOCK; LINE is the number of the fence.
for_each_fence() {
    local line info= block= number=0 from=0
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        if ((from == 0)) && [[ $line == '```'* ]]; then
            from=$number info=${line#'```'} block=
        elif ((from > 0)) && [[ $line == '```' ]]; then
            local lang=${info%% *} kind=
            [[ $info == *' '* ]] && kind=${info#* }
            "$2" "$from" "$lang" "$kind" "$block"
            from=0
        elif ((from > 0)); then
            block+=$line$'\n'
        fi
    done <"$1"
    ((from == 0)) || "$2" "$from" "" "never ends" ""
}
