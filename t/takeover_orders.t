#!/usr/bin/perl

# Tests for a device that comes back while its first connection is still at it:
# two REGISTERs of one lease, their answers, and the end of the first
# connection, in all orders, in one worker and in two, with an instance-id and
# without.  The second connection is registered in the end, its Contact is not
# taken back before it is gone, and then once.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('ss');

# R1 is first, A2 is behind R2: A1, C1 and the two of them in all orders

my @orders;

for my $a1 (0 .. 3) {
    for my $c1 (grep { $_ != $a1 } 0 .. 3) {
        my @order = ('R2', 'A2');
        my @at = (['A1', $a1], ['C1', $c1]);

        for (sort { $a->[1] <=> $b->[1] } @at) {
            splice @order, $_->[1], 0, $_->[0];
        }

        push @orders, ['R1', @order];
    }
}

my @cases = map {
    my $case = $_;
    map { { %$case, order => $_ } } @orders
} map { ({ instance => $_, other => 0 }, { instance => $_, other => 1 }) } 0, 1;

$t->plan(4 * @cases + 2);

use constant GRACE => 6;

ims_keys($t);
ims_pool($t, size => scalar @cases);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2,
    lease_check => '200ms', grace => GRACE . 's',
    http => 'ims_ping_interval 600s;'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my @back;

for my $case (@cases) {
    play($case);
}

# the grace of all first connections is over

collect(GRACE + 4);

for my $case (@cases) {
    my $name = name($case);

    is($case->{status}, 200, "$name: registered");
    ok($case->{c}->alive(), "$name: alive");
    is(back($case), 0, "$name: nothing is taken back");
}

# that of the second ones

@back = ();
$_->{c}{ws}->drop() for @cases;

ims_wait(40, sub { collect(0.5); !grep { !back($_) } @cases });
collect(2);

is(back($_), 1, name($_) . ': taken back once, in the end') for @cases;
is(scalar @back, scalar @cases, 'and nothing else');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub play {
    my ($case) = @_;

    my $c = ImsClient->new(ua => $case->{instance} ? {} : { instance => '' });
    my ($first, $second) = $c->{ws};
    my (@m, %did);

    $case->{c} = $c;
    my $owner = owner($first);

    for my $step (@{$case->{order}}) {

        if ($step eq 'R1') {
            $c->send($c->{ua}->register());
            $m[1] = [register()];

        } elsif ($step eq 'R2') {
            $second = connect_at($c, $owner, $case->{other});
            $c->send($c->{ua}->register());
            $m[2] = [register()];

        } elsif ($step eq 'C1') {
            $first->drop();

        } else {
            my ($n) = $step =~ /(\d)/;
            my ($m, $link) = @{$m[$n]};
            $core->reply($link, $m, 200, 'OK') if $m;

            if ($n == 2) {
                my $answer = $c->answer();
                $case->{status} = $answer ? $answer->{status} : 0;
            }
        }
    }
}


# another connection of the client: to the worker that had the first, or not

sub connect_at {
    my ($c, $was, $other) = @_;

    for (1 .. 40) {
        my $ws = $c->connect();
        return $ws if (owner($ws) != $was) == $other;
        $ws->drop();
    }

    return $c->{ws};
}


sub owner { return ims_owner($_[0]{s}) }


# the next REGISTER of a client; what the edge takes back is put aside

sub register {
    while (my ($m, $link) = $core->request(10)) {
        return ($m, $link) if sip_header($m, 'Expires');
        take($m, $link);
    }

    return ();
}


sub collect {
    my ($seconds) = @_;

    my $end = time() + $seconds;

    while ((my $left = $end - time()) > 0) {
        my ($m, $link) = $core->request($left) or last;
        take($m, $link);
    }
}


sub take {
    my ($m, $link) = @_;

    push @back, sip_header($m, 'Contact');
    $core->reply($link, $m, 200, 'OK', contact => '');
}


sub back {
    my ($case) = @_;

    my $contact = '<' . $case->{c}{ua}->contact() . '>;expires=0';

    return scalar grep { $_ eq $contact } @back;
}


sub name {
    my ($case) = @_;

    return join ' ', @{$case->{order}},
        $case->{other} ? 'two workers' : 'one worker',
        $case->{instance} ? 'instance' : 'no instance';
}

###############################################################################
