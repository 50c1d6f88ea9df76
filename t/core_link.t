#!/usr/bin/perl

# Tests for what the core sends: framing of a stream, keep-alives, messages
# that lie about their length, addresses that may not connect.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(41);

ims_keys($t);
$t->write_file_expand('nginx.conf', ims_conf($t));
$t->run();

###############################################################################

my $edge = '127.0.0.1:' . port(8070);

# whole messages

my $s = core();
like(ask($s, options()), qr{^SIP/2.0 200 OK\r\n}, 'options');
like(ask($s, options()), qr{^SIP/2.0 200 OK\r\n}, 'again on the same link');

print $s options(cseq => 11) . options(cseq => 12);
like(answer($s), qr/CSeq: 11 /, 'two in one segment, first');
like(answer($s), qr/CSeq: 12 /, 'two in one segment, second');

my $n = 400;
my $all = join '', map { options(cseq => $_) } 1 .. $n;
my @got = talk($s, $all, $n);
is(scalar @got, $n, 'many at once');
is(join(' ', map { /CSeq: (\d+) /; $1 } @got), join(' ', 1 .. $n),
    'answered in order');

# partial messages

my $text = options(cseq => 21, body => "body\r\n\r\nof it");
for my $byte (split //, $text) {
    print $s $byte;
    sleep 0.0005;
}
like(answer($s), qr/CSeq: 21 /, 'byte by byte');

for my $cut (1, 3, 20, length($text) - 1) {
    print $s substr($text, 0, $cut);
    sleep 0.02;
    print $s substr($text, $cut) . options(cseq => 22);
    like(answer($s) . answer($s), qr/CSeq: 21 .*CSeq: 22 /s,
        "cut at $cut, and the next one behind it");
}

my $big = options(cseq => 23, body => 'x' x 60000);
@got = talk($s, $big . options(cseq => 24), 2);
like(join('', @got), qr/CSeq: 23 .*CSeq: 24 /s, 'a large one');

# keep-alive (RFC 5626 4.4.1)

is(ask($s, "\r\n\r\n", 2), "\r\n", 'ping answered');
like(ask($s, "\r\n" . options(cseq => 31)), qr/CSeq: 31 /, 'stray line end');

# lies and noise; each closes the link and that link only

my $kept = core();
my $bad = count('core_bad');

refused('no length', options() =~ s/Content-Length: 0\r\n//r);
refused('length too short', options(body => "he\0\0\0")
    =~ s/Content-Length: 5/Content-Length: 2/r . options());
refused('two lengths', options()
    =~ s/(Content-Length: 0\r\n)/$1l: 10\r\n/r);
refused('length beyond all', options()
    =~ s/(Content-Length: )0/${1}99999999999999999999/r);
refused('negative length', options() =~ s/(Content-Length: )0/$1-1/r);
refused('far above ims_max_message', options()
    =~ s/(Content-Length: )0/${1}2000000/r);
refused('endless headers', "OPTIONS sip:127.0.0.1 SIP/2.0\r\nX: "
    . 'x' x 80000);
refused('not SIP', "\0\1\2\3\r\n\r\n" . "\xff" x 100);

cmp_ok(count('core_bad') - $bad, '>=', 8, 'counted');

like(ask($s, options(cseq => 41)), qr/CSeq: 41 /, 'other links live');

# a promise of more than comes: nothing happens, nothing is held up

print $s options() =~ s/(Content-Length: )0/${1}100/r;
is(answer($s, 0.5), undef, 'the rest is waited for');
like(ask($kept, options(cseq => 42)), qr/CSeq: 42 /, 'others are served');
close $s;

# malformed, but its end is known: answered, and the link stays

like(ask($kept, options() =~ s/CSeq: \d+ OPTIONS/CSeq: 1 INVITE/r),
    qr{^SIP/2.0 400 }, 'malformed');
like(ask($kept, options(cseq => 43)), qr/CSeq: 43 /, 'and the next is fine');

# too big: answered, read past, and the next is fine

$big = options(cseq => 44, body => 'x' x 300000);
@got = talk($kept, $big . options(cseq => 45), 2);
like($got[0], qr{^SIP/2.0 513 .*CSeq: 44 }s, 'above ims_max_message');
like($got[1], qr{^SIP/2.0 200 .*CSeq: 45 }s, 'and the next');
print $kept substr $big, 0, 100;
sleep 0.05;
print $kept substr($big, 100) . options(cseq => 46);
like(answer($kept) . answer($kept), qr/ 513 .*CSeq: 46 /s, 'in parts');
$big =~ s/OPTIONS/ACK/g;
print $kept $big . options(cseq => 47);
like(answer($kept), qr/CSeq: 47 /, 'never an answer to ACK');

# from elsewhere

my $other = IO::Socket::INET->new(PeerAddr => $edge,
    LocalAddr => '127.0.0.2');
print $other options();
is(answer($other, 3), undef, 'foreign address');
ok(closed($other), 'closed');
is(count('core_refused'), 1, 'counted');

# a worker that leaves says so, and reads what is still under way

my $slow = core();
like(ask($slow, options()), qr/200 OK/, 'two links');

$t->reload();
ok(closed($kept), 'half-closed by a worker that leaves');
print $kept options();
close $kept;

ok(closed($slow), 'the other one too');
ok(!ims_wait_log($t, qr/exited with code 0/, seconds => 1),
    'it waits for the core to close');
close $slow;
ok(ims_wait_log($t, qr/exited with code 0/, seconds => 2), 'and leaves');

like(ask(core(), options()), qr/200 OK/, 'the next one serves');

###############################################################################

sub core {
    my $c = IO::Socket::INET->new(PeerAddr => $edge) or die "$edge: $!\n";
    $c->autoflush(1);
    return $c;
}


sub options {
    my (%o) = @_;

    return ImsSip->new(aor => 'sip:127.0.0.1', transport => 'TCP',
        host => '127.0.0.1')->request('OPTIONS', %o);
}


# the next answer; a number of bytes instead of a message with $length

sub answer {
    my ($c, $seconds, $length) = @_;

    my $end = time() + ($seconds // 5);
    our %buf;

    $buf{$c} //= '';

    while (1) {
        if ($length) {
            return substr $buf{$c}, 0, $length, ''
                if length $buf{$c} >= $length;

        } else {
            my $m = sip_frame(\$buf{$c});
            return $m if defined $m;
        }

        my $left = $end - time();
        return undef if $left <= 0;
        next unless IO::Select->new($c)->can_read($left);
        sysread $c, $buf{$c}, 65536, length $buf{$c} or return undef;
    }
}


sub ask {
    my ($c, $text, $length) = @_;

    print $c $text;

    return answer($c, 5, $length);
}


# writes and reads together, however much it is

sub talk {
    my ($c, $text, $count) = @_;

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        print $c $text;
        POSIX::_exit(0);
    }

    my @answers;
    while (@answers < $count) {
        push @answers, answer($c) // last;
    }

    waitpid $pid, 0;

    return @answers;
}


sub refused {
    my ($what, $text) = @_;

    my $c = core();
    local $SIG{PIPE} = 'IGNORE';
    print $c $text;
    ok(closed($c), "$what: closed");
}


sub closed {
    my ($c) = @_;

    my $end = time() + 5;

    while (time() < $end) {
        next unless IO::Select->new($c)->can_read(0.2);
        my $rv = sysread $c, my ($buf), 65536;
        return 1 if !$rv;
    }

    return 0;
}


sub count {
    my ($name) = @_;

    my $status = ims_status();

    return $status->{counters}{$name} // $status->{$name};
}

###############################################################################
