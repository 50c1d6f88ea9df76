package ImsWait;

# How long a test waits for what is to come. Seconds in a test are those of a
# quiet machine; on one that runs eight tests on two cores, or stands still
# now and then, a wait of two seconds or longer may take four times as long. A
# test that goes well does not wait longer for it. Shorter waits are for what
# shall not come, and stay as they are.
#
#   my $end = time() + patience($seconds // 5);

use strict;
use warnings;

use Exporter qw/ import /;

our @EXPORT = qw/ patience /;


sub patience {
    my ($seconds) = @_;

    return $seconds < 2 ? $seconds : $seconds * 4;
}


1;
